from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import melp_bench as mb
from melp_bench.evaluations import Context, TaskRecords
from melp_bench.measure import measure
from melp_bench.metrics import Metric, weighted_auroc, weighted_precision
from melp_bench.model import Model
from melp_bench.results import Interval, Outcome
from melp_bench.splits import Positions, cross_validation, holdout
from melp_bench.windows import Windows, one_each

METRICS = (Metric("auroc", "macro AUROC", weighted_auroc), Metric("auprc", "macro AUPRC", weighted_precision))


class Told(mb.ECGEncoder):
    """An encoder whose features are its signal."""

    projected = True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spec, self.width = mb.SignalSpec(rate_hz=float(width), seconds=1.0, leads=("I",)), width

    def forward(self, signal: Tensor) -> mb.Features:
        return mb.Features(record=signal[:, 0], embedding=signal[:, 0])


@dataclass(frozen=True)
class Made:
    """A task, and the features (N, P) of its records."""

    task: TaskRecords
    features: Tensor

    def change(self, features: Tensor | None = None, **fields: Any) -> Made:
        """Return it with other features or fields of the task."""
        return Made(replace(self.task, **fields), self.features if features is None else features)

    def relabelled(self, positions: Any, columns: Any, value: Any) -> Made:
        """Return it with other labels at `positions` and `columns`."""
        labels = self.task.labels.copy()
        labels[positions, columns] = value
        return self.change(labels=labels)

    # What a context reads of a dataset.

    @property
    def fingerprint(self) -> str:
        return f"{self.task.name} {id(self)}"

    def __len__(self) -> int:
        return len(self.features)

    def batch(self, positions: Positions, spec: mb.SignalSpec, device: str | torch.device = "cpu") -> Tensor:
        return self.features[positions][:, None]

    def windows(self, positions: Positions, spec: mb.SignalSpec, device: str | torch.device = "cpu") -> Windows:
        return one_each(self.batch(positions, spec, device))


def make(
    *,
    name: str = "s/x",
    classes: tuple[str, ...] = ("a", "b", "c"),
    records: int = 400,
    width: int = 12,
    signal: float = 2.0,
    split: str = "holdout",
    seed: int = 0,
    folds: np.ndarray | None = None,
) -> Made:
    generator = np.random.default_rng(seed)
    labels = generator.random((records, len(classes))) < 0.3
    directions = np.linalg.qr(np.random.default_rng(99).standard_normal((width, width)))[0][: len(classes)]
    features = generator.standard_normal((records, width)) + signal * (labels - 0.3) @ directions
    folds = np.arange(records) // 2 % 10 + 1 if folds is None else folds
    task = TaskRecords(
        name=name,
        dataset=name.partition("/")[0],
        classes=classes,
        labels=labels,
        record_ids=np.array([f"r{i:05d}" for i in range(records)]),
        patients=np.array([f"p{i // 2:05d}" for i in range(records)]),
        ages=np.full(records, 60.0),
        sexes=np.full(records, "F"),
        reports=("",) * records,
        prompts={c: (c, f"{c} again") for c in classes},
        parts=holdout(folds) if split == "holdout" else cross_validation(folds),
        positions=np.arange(records),
    )
    return Made(task, torch.tensor(3 * features + 5, dtype=torch.float32))


@pytest.fixture
def make_task() -> Callable[..., Made]:
    """Return a maker of tasks: Gaussian features, moved by `signal` along one direction per positive class."""
    return make


class Speaking(Context):
    """A context whose prompts are read by a function."""

    encode: Callable[[Sequence[str]], Tensor] | None = None

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        return super().encode_prompts(prompts) if self.encode is None else self.encode(prompts)


@pytest.fixture
def context_of(tmp_path: Path) -> Callable[..., Context]:
    """Return a maker of contexts: a model that hands through what the tasks hold, mute unless `encode` reads its prompts."""

    def context(*made: Made, encode: Callable[[Sequence[str]], Tensor] | None = None) -> Context:
        tasks = {one.task.name: one.task for one in made}
        width = made[0].features.shape[1]
        recordings = {one.task.alias: one for one in made}
        given = Speaking(
            "mute",
            lambda: Model(Told(width)),
            recordings,
            tasks.__getitem__,
            features=tmp_path / "features",
            identity="told",
        )
        given.encode = encode
        return given

    return context


@pytest.fixture
def score(context_of: Callable[..., Context]) -> Callable[..., Outcome]:
    """Return a function from an evaluation and its tasks to the outcome of its first (or a chosen) row."""

    def scored(
        evaluation: mb.Evaluation, *made: Made, row: int = 0, resamples: int = 100, encode: Any = None, pair: bool = False
    ) -> Outcome:
        names = [one.task.name for one in made]
        measurements = list(evaluation.expand(["->".join(names)] if pair else names))
        context = context_of(*made, encode=encode)
        with context.guarding("the evaluation"):
            predictions = evaluation.run(context, measurements[row])
        return measure(predictions, METRICS, Interval(resamples=resamples))

    return scored
