"""What every evaluation is asked, on a small model and two small datasets whose classes can be seen in the signals.

Shapes: N records, L leads, T samples, S seeds, C classes, D channels.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from melp_bench.canonical import canonical_json
from melp_bench.components import Heads, TextBatch, TextEncoder
from melp_bench.errors import NotApplicable, UserError
from melp_bench.evaluations import Context, Evaluation, Measurement, ModelTraits, TaskRecords
from melp_bench.features import Features
from melp_bench.leads import LEADS
from melp_bench.model import Model
from melp_bench.predictions import Predictions
from melp_bench.records import Wave, wave_measurements
from melp_bench.signal import SignalSpec, conform
from melp_bench.splits import Positions, cross_validation, holdout
from melp_bench.testing.small import SIZES, SmallEncoder
from melp_bench.testing.verdict import demand
from melp_bench.windows import Windows, conform_windows

CLASSES = ("slow", "fast", "strong")
RATE_HZ = 100.0
WIDTH = SIZES.ecg_tokens
WAVES_S = (0.1, 0.4, 0.7, 1.1, 1.4, 1.7)
TASKS = ("made/first", "other/second")


@dataclass(frozen=True)
class MadeRecords:
    """Records in memory, in the place of a store."""

    millivolts: Tensor  # (N, L, T)
    fingerprint: str

    def __len__(self) -> int:
        return len(self.millivolts)

    def measurements(self, positions: Positions) -> list[dict[str, float]]:
        """Return waves that are marked at the same places of every record."""
        made = [Wave(kind, start, start + 0.1, start + 0.2) for start, kind in zip(WAVES_S, ("P", "QRS", "T") * 2, strict=True)]
        return [wave_measurements(made)] * len(positions)

    def batch(self, positions: Positions, spec: SignalSpec, device: str | torch.device = "cpu") -> Tensor:
        """Return the records at `positions` as `spec` asks for them."""
        return conform(self.millivolts[positions].to(device), rate_hz=RATE_HZ, leads=LEADS, spec=spec)

    def windows(self, positions: Positions, spec: SignalSpec, device: str | torch.device = "cpu") -> Windows:
        """Return the windows by which an encoder of `spec` reads the records at `positions`."""
        return conform_windows(self.millivolts[positions].to(device), rate_hz=RATE_HZ, leads=LEADS, spec=spec)


class NormedEncoder(SmallEncoder):
    """A small encoder with what a frozen one must not move either: batch normalisation, whose statistics learn in training."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(self.embedding_width)

    def forward(self, signal: Tensor) -> Features:
        """Return features of `signal` (B, 12, T), the embedding normalised."""
        features = super().forward(signal)
        return features.apply({"embedding": self.norm(features.embedding)})


class Letters(TextEncoder):
    """Reports as the mean of their letters, in the space shared with records."""

    width, vocab_size, pad_id, projected = WIDTH, 128, 0, True

    def __init__(self) -> None:
        super().__init__()
        self.letters = nn.Embedding(self.vocab_size, self.width, padding_idx=0)

    def tokenize(self, reports: Sequence[str]) -> TextBatch:
        """Return the reports as their letters' codes."""
        longest = max(len(report) for report in reports) + 1
        codes = [[min(ord(letter), 127) for letter in report] for report in reports]
        ids = torch.tensor([[1, *some] + [0] * (longest - 1 - len(some)) for some in codes])
        return TextBatch(ids, ids > 0, torch.where(ids > 1, 0, -1))

    def forward(self, batch: TextBatch) -> Features:
        """Return the mean of the letters that are there."""
        tokens = self.letters(batch.ids)  # (B, N, D)
        mean = (tokens * batch.mask[..., None]).sum(dim=1) / batch.mask.sum(dim=1, keepdim=True)
        return Features(record=mean, embedding=mean, tokens=tokens, tokens_mask=batch.mask, token_ids=batch.ids)


class Quarters(Heads):
    """Heads that leave records and reports as they are, and make segments of the quarters of a record."""

    width = WIDTH

    def ecg(self, features: Features) -> Features:
        """Return the features with segments (B, 4, D), the means of a quarter of the tokens each."""
        if features.tokens is None:
            return features
        quarters = [part.mean(dim=1) for part in features.tokens.chunk(4, dim=1)]
        return features.apply({"segments": torch.stack(quarters, dim=1)})

    def text(self, features: Features) -> Features:
        """Return the features of reports as they are."""
        return features


def made_model(*, text: bool = True) -> Model:
    """Return a small model with fixed random weights, which the caller's random numbers do not notice."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Model(NormedEncoder(), Letters() if text else None, Quarters())


def made_task(name: str, *, records: int = 120, split: str = "holdout", seed: int = 0) -> tuple[TaskRecords, Tensor]:
    """Return a task, and the signals (N, L, T) of its records; patients have two records each."""
    generator = np.random.default_rng(seed)
    labels = generator.random((records, len(CLASSES))) < 0.4
    time = np.arange(200) / RATE_HZ
    waves = np.stack([np.sin(2 * np.pi * hertz * time) for hertz in (1.0, 7.0, 3.0)])  # (C, T)
    signals = 0.1 * generator.standard_normal((records, len(LEADS), len(time)))
    for column in range(len(CLASSES)):
        signals[:, column::3] += 0.5 * labels[:, column, None, None] * waves[column]
    folds = np.arange(records) // 2 % 10 + 1
    parts = cross_validation(folds) if split == "cross-validate" else holdout(folds)
    task = TaskRecords(
        name=name,
        dataset=name.partition("/")[0],
        classes=CLASSES,
        labels=labels,
        record_ids=np.array([f"r{i:05d}" for i in range(records)]),
        patients=np.array([f"p{i // 2:05d}" for i in range(records)]),
        ages=generator.uniform(20, 90, records),
        sexes=np.array(["F", "M"])[generator.integers(2, size=records)],
        reports=tuple(" and ".join(np.array(CLASSES)[row]) or "nothing" for row in labels),
        prompts={one: (one, f"{one} waves") for one in CLASSES},
        parts=parts,
        positions=np.arange(records),
    )
    return task, torch.tensor(signals, dtype=torch.float32)


class EvaluationTrial:
    """An evaluation, and contexts to run it in."""

    def __init__(self, evaluation: Evaluation) -> None:
        self.evaluation, self._folder = evaluation, tempfile.TemporaryDirectory(prefix="melp-bench-")
        self.tasks = {name: made_task(name, seed=seed) for seed, name in enumerate(TASKS)}
        self.measurements = self.expand(TASKS[:1], [f"{TASKS[0]}->{TASKS[1]}"])

    def expand(self, single: Sequence[str], pairs: Sequence[str]) -> list[Measurement]:
        """Return the rows of single tasks, or of pairs for an evaluation that asks for these."""
        try:
            return list(self.evaluation.expand(single))
        except UserError:
            return list(self.evaluation.expand(pairs))

    def context(self, change: Callable[[TaskRecords, Tensor], tuple[TaskRecords, Tensor]] | None = None) -> Context:
        """Return a fresh context, its tasks changed by `change`."""
        tasks = {name: change(*made) if change else made for name, made in self.tasks.items()}
        recordings = {name.partition("/")[0]: MadeRecords(signals, f"{name} {change}") for name, (_, signals) in tasks.items()}
        folder = Path(tempfile.mkdtemp(dir=self._folder.name))
        return Context("made", made_model, recordings, lambda name: tasks[name][0], features=folder, identity="made")

    def run(self, context: Context, measurement: Measurement) -> Predictions:
        """Return the predictions of a row, with the model guarded."""
        with context.guarding(type(self.evaluation).__name__):
            return self.evaluation.run(context, measurement)

    @property
    def ends(self) -> list[Measurement]:
        """The first and the last row."""
        return self.measurements[:1] if len(self.measurements) == 1 else [self.measurements[0], self.measurements[-1]]


def evaluation_trial(build: Callable[[], Evaluation]) -> EvaluationTrial:
    """Return what the checks are asked of."""
    return EvaluationTrial(build())


# ------------------------------------------------------------------------------------------------------------- checks


def _rows(trial: EvaluationTrial) -> str:
    demand(bool(trial.measurements), "expand returned no row")
    for row in trial.measurements:
        canonical_json(dict(row.options))
        unknown = [task for task in row.tasks if task not in TASKS]
        demand(not unknown, f"a row reads {unknown}, which were not asked for")
    told = [(row.task, row.setting) for row in trial.measurements]
    demand(len(set(told)) == len(told), "two rows have one task and setting")
    return f"{len(told)} rows of one task"


def _neighbours(trial: EvaluationTrial) -> str:
    there, back = f"{TASKS[0]}->{TASKS[1]}", f"{TASKS[1]}->{TASKS[0]}"
    more = trial.expand(TASKS, [there, back])
    demand([row for row in trial.measurements if row not in more] == [], "rows change where another task is asked for too")
    return ""


def _whole(trial: EvaluationTrial) -> str:
    context = trial.context()
    for row in trial.ends:
        made, task = trial.run(context, row), context.task(row.tasks[-1])
        known = dict(zip(task.record_ids.tolist(), task.patients.tolist(), strict=True))
        owners = [one if one in known else one.rpartition("@")[0] for one in made.record_ids.tolist()]
        where = np.isin(task.record_ids[task.scored], owners)
        expected = (len(made.record_ids), len(made.classes))
        shapes = f"scores are {made.scores.shape}, labels {made.labels.shape}; wanted (S, {expected[0]}, {expected[1]})"
        demand(made.scores.ndim == 3 and made.scores.shape[1:] == made.labels.shape == expected, shapes)
        demand(bool(np.isfinite(made.scores).all()), "a score is not finite")
        once = len(set(made.record_ids.tolist())) == len(made.record_ids) and len(set(owners)) == where.sum()
        demand(once, "not every record, or part of one, is a test record's once")
        demand([known[owner] for owner in owners] == made.patients.tolist(), "a record has another's patient")
        if made.kind == "probability":
            demand(bool(((made.scores >= 0) & (made.scores <= 1)).all()), "a probability is not in [0, 1]")
        if made.validation is not None:
            scores, labels = made.validation
            demand(scores.shape == (len(made.scores), *labels.shape), f"validation is {scores.shape} for labels {labels.shape}")
        canonical_json(dict(made.details))
    return ""


def _repeatable(trial: EvaluationTrial) -> str:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(271_828)  # where no evaluation leaves it that seeds for everyone
        before = _random_states()
        for row in trial.ends:
            first, second = (trial.run(trial.context(), row).scores for _ in range(2))
            demand(np.array_equal(first, second), f"two runs differ by {_distance(first, second):.2g}")
        untouched = all(np.array_equal(one, other) for one, other in zip(before, _random_states(), strict=True))
        demand(untouched, "the random numbers of others are moved; fork them, or use a generator")
    return ""


def _random_states() -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the states of the random numbers that everyone shares."""
    shared = np.random.get_state(legacy=False)  # noqa: NPY002 (it is only looked at)
    return torch.get_rng_state().numpy(), np.append(shared["state"]["key"], shared["state"]["pos"])


def _order(trial: EvaluationTrial) -> str:
    def mixed(task: TaskRecords, signals: Tensor) -> tuple[TaskRecords, Tensor]:
        order = np.random.default_rng(1).permutation(len(task))
        return replace(task, positions=np.argsort(order)), signals[order]

    furthest = 0.0
    for row in trial.ends:
        one, other = trial.run(trial.context(), row), trial.run(trial.context(mixed), row)
        furthest = max(furthest, _distance(one.scores, other.scores))
    demand(furthest < 1e-3, f"scores move by {furthest:.2g} where records lie in another order")
    return f"moves {furthest:.1g}"


def _blind(trial: EvaluationTrial) -> str:
    def flipped(task: TaskRecords, signals: Tensor) -> tuple[TaskRecords, Tensor]:
        labels = task.labels.copy()
        labels[task.scored] = ~labels[task.scored]
        return replace(task, labels=labels), signals

    for row in trial.ends:
        one, other = trial.run(trial.context(), row), trial.run(trial.context(flipped), row)
        demand(np.array_equal(one.scores, other.scores), "scores depend on the labels of test records")
        asked = trial.tasks[row.tasks[-1]][0].classes == one.classes  # and not something else that is known of the records
        demand(
            not (asked and np.array_equal(one.labels, other.labels)), "the labels it returns are not those of the test records"
        )
    return ""


def _reason(trial: EvaluationTrial) -> str:
    fitting = trial.evaluation.fits(ModelTraits("made", reads_text=True))
    demand(fitting is None or bool(fitting.strip()), "fits returned an empty reason")
    mute = trial.evaluation.fits(ModelTraits("mute", reads_text=False))
    context = trial.context()
    context._load = lambda: made_model(text=False)
    try:
        trial.run(context, trial.measurements[0])
    except NotApplicable as reason:
        demand(mute is not None, f"a model without text is told only when it runs: {reason}")
        return f"without text: {mute}"
    demand(mute is None, f"fits says {mute!r} of a model that can be scored")
    return ""


def _distance(one: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]]) -> float:
    return float(np.abs(one - other).max()) if one.shape == other.shape else float("inf")


EVALUATION_CHECKS: dict[str, Callable[[EvaluationTrial], str]] = {
    "it expands into rows of plain JSON": _rows,
    "its rows do not depend on their neighbours": _neighbours,
    "every test record is scored once, and the model stays as it was": _whole,
    "two runs are equal, and nobody else's random numbers are moved": _repeatable,
    "the order of records does not matter": _order,
    "labels of test records reach no score": _blind,
    "it says of a model beforehand whether it fits": _reason,
}
