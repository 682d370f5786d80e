"""Delineation: where in a record its P waves, QRS complexes and T waves are, read from an encoder's tokens.

A record's moments, every 40 ms between its first and last marked wave, are asked whether a wave of each kind is there. A moment
is read by one linear layer from the frozen tokens nearest to it, between two of them linearly; the layer is fitted by AdamW as
in `linear_probe` on the moments of the training records. A row's classes are P, QRS and T, what it scores are moments, and
intervals resample patients. Scores of a whole record's embedding would say nothing here: a model without tokens, or with tokens
that are no moments (tried as `token_times` tells), is not applicable and has no score near zero.

The details hold how well R peaks are found: peaks of the score of QRS above a threshold that validation chooses, 250 ms apart,
one for each marked R peak within 150 ms (ANSI/AAMI EC57).

Waves are a record's measurements (`melp_bench.records.waves_of`); `ludb-waves` has them. Paper: Kalyakulina et al. 2020.
Shapes: N records, n moments of all, M tokens, D token channels, S seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import melp_bench as mb
from melp_bench.records import waves_of
from melp_bench.splits import Positions, SplitPart
from melp_plugins.evaluations.pooling import Scorer, pooled, require_parts
from melp_plugins.evaluations.probe import Fitting, fit
from melp_plugins.evaluations.probing import fit_details, problems_of, require_seeds, scorer
from melp_plugins.evaluations.token_times import at_times, by_time, require_tokens_in_time

KINDS = ("P", "QRS", "T")
STEP_S, TOLERANCE_S, APART_S = 0.04, 0.15, 0.25
BATCH = 64
USUAL = Fitting(batch_size=1024, epochs=30, patience=5)


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of records, those of a record one after the other."""

    record: NDArray[np.int64]  # (n,) whose it is, a position of the task
    seconds: NDArray[np.float64]  # (n,)
    labels: NDArray[np.bool_]  # (n, 3)
    peaks: dict[int, NDArray[np.float64]]  # position of a record -> its R peaks in seconds

    def of(self, positions: Positions) -> Positions:
        """Return which moments are those of the records at `positions`."""
        return np.flatnonzero(np.isin(self.record, positions))


class Delineation(mb.Evaluation):
    """One row per task; its score is the mean over the seeds."""

    version = 1
    label = "delineation"
    metrics = ("auroc", "auprc")

    def __init__(
        self, *, seeds: tuple[int, ...] = (0, 1, 2), epochs: int = USUAL.epochs, patience: int = USUAL.patience
    ) -> None:
        """Check the options.

        Raises:
            UserError: there is no seed, or no epoch.
        """
        if min(epochs, patience) < 1:
            raise mb.UserError(f"evaluation 'delineation' has epochs = {epochs} and patience = {patience}; wanted at least 1")
        self.seeds, self.fitting = require_seeds(seeds, "delineation"), replace(USUAL, epochs=epochs, patience=patience)

    def expand(self, tasks: Sequence[str]) -> Iterable[mb.Measurement]:
        """Return a row per task."""
        options = {**asdict(self.fitting), "seeds": list(self.seeds), "step_s": STEP_S}
        return [mb.Measurement(task, (task,), "", options) for task in tasks]

    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        """Return the logits of P, QRS and T (S, n, 3) at moments of the test records.

        Raises:
            NotApplicable: no record has marked waves, the model has no tokens that are moments, or a part of the split
                is empty.
        """
        task = context.task(measurement.task)
        require_parts(task)
        moments = moments_of(context.measurements(task), context.model.encoder.spec.seconds)
        if len(moments.record) == 0:
            raise mb.NotApplicable(f"no record of {task.name!r} has marked waves")
        require_tokens_in_time(context, task)
        features = self._features(context, task, moments)
        asked = as_records(task, moments)
        problems = problems_of(asked, 1.0, self.seeds)
        probes = fit(features, asked.labels, problems, self.fitting)
        score = scorer(problems, probes, features)
        details = {**fit_details(asked, 1.0, self.seeds, problems, probes), "r_peaks": _r_peaks(score, task, moments)}
        return pooled(asked, score, kind="logit", scales_differ=True, details=details)

    def _features(self, context: mb.Context, task: mb.TaskRecords, moments: Moments) -> Tensor:
        """Return the features (n, D) of the moments."""
        length = context.model.encoder.spec.seconds
        found = []
        wanted = np.unique(moments.record)
        for batch in (wanted[i : i + BATCH] for i in range(0, len(wanted), BATCH)):
            tokens = context.encode(context.signals(task, batch)).tokens
            if tokens is None:
                raise mb.NotApplicable("needs tokens, which the model does not offer")
            for one, position in zip(by_time(context, tokens).float().cpu(), batch.tolist(), strict=True):
                seconds = torch.from_numpy(moments.seconds[moments.record == position]).float()
                found.append(at_times(one, seconds, length))
        features = torch.cat(found)
        if not bool(features.isfinite().all()):
            raise mb.UserError(f"model {context.name!r} gave tokens that are not finite; check its weights")
        return features


def moments_of(measurements: Sequence[dict[str, float]], length_s: float) -> Moments:
    """Return the moments, every 40 ms, between the first and last marked wave of each record's first `length_s`."""
    record, seconds, labels, peaks = [], [], [], {}
    for position, stated in enumerate(measurements):
        waves = [wave for wave in waves_of(stated) if wave.kind in KINDS]
        if not waves:
            continue
        first, last = waves[0].onset_s, min(max(wave.offset_s for wave in waves), length_s)
        at = np.arange(np.ceil(first / STEP_S), np.floor(last / STEP_S) + 1) * STEP_S
        inside = np.zeros((len(at), len(KINDS)), dtype=bool)
        for wave in waves:
            inside[:, KINDS.index(wave.kind)] |= (at >= wave.onset_s) & (at <= wave.offset_s)
        record.append(np.full(len(at), position))
        seconds.append(at)
        labels.append(inside)
        peaks[position] = np.array([w.peak_s for w in waves if w.kind == "QRS" and w.peak_s <= last])
    if not record:
        return Moments(np.zeros(0, np.int64), np.zeros(0), np.zeros((0, len(KINDS)), bool), {})
    return Moments(np.concatenate(record), np.concatenate(seconds), np.concatenate(labels), peaks)


def as_records(task: mb.TaskRecords, moments: Moments) -> mb.TaskRecords:
    """Return a task whose records are the moments, split as their records are."""
    names = [f"{task.record_ids[r]}@{s:.2f} s" for r, s in zip(moments.record.tolist(), moments.seconds.tolist(), strict=True)]
    return replace(
        task,
        classes=KINDS,
        labels=moments.labels,
        record_ids=np.array(names, dtype=np.str_),
        patients=task.patients[moments.record],
        ages=task.ages[moments.record],
        sexes=task.sexes[moments.record],
        reports=("",) * len(names),
        prompts={},
        positions=np.arange(len(names)),
        parts=tuple(SplitPart(*(moments.of(p) for p in (part.train, part.validation, part.test))) for part in task.parts),
        published=None,
    )


def _r_peaks(score: Scorer, task: mb.TaskRecords, moments: Moments) -> dict[str, Any]:
    """Return sensitivity, precision and F1 of R peaks in the test records, pooled over the parts of the split."""
    total = np.zeros(3, dtype=np.int64)
    for number, part in enumerate(task.parts):
        seen, tested = moments.of(part.validation), moments.of(part.test)
        heights = score(number, seen)[..., 1].mean(axis=0)
        thresholds = np.quantile(heights, np.linspace(0.5, 0.98, 25))
        found = [_counts(heights, seen, moments, threshold) for threshold in thresholds]
        best = thresholds[int(np.argmax([_f1(one) for one in found]))]
        total += _counts(score(number, tested)[..., 1].mean(axis=0), tested, moments, best)
    hits, missed, false = total.tolist()
    rates = {"sensitivity": hits / max(hits + missed, 1), "precision": hits / max(hits + false, 1), "f1": _f1(total)}
    return {"marked": hits + missed, "within_ms": 1000 * TOLERANCE_S, **rates}


def _f1(counts: NDArray[np.int64]) -> float:
    return float(2 * counts[0] / max(2 * counts[0] + counts[1] + counts[2], 1))


def _counts(heights: NDArray[Any], chosen: Positions, moments: Moments, threshold: float) -> NDArray[np.int64]:
    """Return how many R peaks are found, missed, and found where none is, in the records of the `chosen` moments."""
    from scipy.signal import find_peaks  # a second to import

    total = np.zeros(3, dtype=np.int64)
    for record in np.unique(moments.record[chosen]).tolist():
        rows = moments.record[chosen] == record
        padded = np.pad(heights[rows], 1, constant_values=-np.inf)  # so that the ends can be peaks
        places, _ = find_peaks(padded, height=threshold, distance=max(1, round(APART_S / STEP_S)))
        total += matched(moments.seconds[chosen][rows][places - 1], moments.peaks[record])
    return total


def matched(found: NDArray[np.float64], marked: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return how many of the `marked` seconds have a `found` one of their own within 150 ms, have none, and are not needed."""
    left, hits = sorted(found.tolist()), 0
    for peak in sorted(marked.tolist()):  # both ascend: taking the earliest that still fits leaves the most for the others
        while left and left[0] < peak - TOLERANCE_S:
            left.pop(0)
        if left and left[0] <= peak + TOLERANCE_S:
            left.pop(0)
            hits += 1
    return np.array([hits, len(marked) - hits, len(found) - hits], dtype=np.int64)


@mb.hookimpl
def melp_evaluations() -> list[mb.Entry[mb.Evaluation]]:
    """Return delineation."""
    return [
        mb.Entry(
            "delineation",
            Delineation,
            "where P waves, QRS complexes and T waves are, by a linear layer on an encoder's tokens",
            "https://doi.org/10.1109/ACCESS.2020.3029211",
            "MIT",
        )
    ]
