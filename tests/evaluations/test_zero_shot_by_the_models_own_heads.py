"""Zero-shot by heads that score classes in a way of their own: what they are asked with, and of which records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import melp_bench as mb
from melp_bench.evaluations import Context
from melp_bench.model import Model
from melp_bench.windows import Windows, one_each
from melp_plugins.evaluations.zero_shot import ZeroShot


class Spelt(mb.TextEncoder):
    """Texts whose features are a table's rows, found by the text."""

    vocab_size, pad_id = 10, 0

    def __init__(self, table: dict[str, list[float]]) -> None:
        super().__init__()
        self.rows, self.width = list(table), len(next(iter(table.values())))
        self.table = nn.Parameter(torch.tensor(list(table.values())))

    def tokenize(self, reports: Sequence[str]) -> mb.TextBatch:
        ids = torch.tensor([[self.rows.index(report)] for report in reports])
        return mb.TextBatch(ids, torch.ones_like(ids, dtype=torch.bool), torch.zeros_like(ids))

    def forward(self, batch: mb.TextBatch) -> mb.Features:
        record = self.table[batch.ids[:, 0]]
        return mb.Features(record=record, embedding=record)


class Asking(mb.Heads):
    """Heads whose score is twice the inner product less one, and nothing like a cosine."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def ecg(self, features: mb.Features) -> mb.Features:
        return features

    def text(self, features: mb.Features) -> mb.Features:
        return features

    def class_scores(self, ecg: mb.Features, names: Tensor) -> Tensor:
        return 2 * ecg.record @ names.T - 1


class Reading(mb.ECGEncoder):
    """An encoder whose features are its signal, by crops or not."""

    projected = True

    def __init__(self, width: int, crops: mb.Crops | None = None) -> None:
        super().__init__()
        self.spec = mb.SignalSpec(rate_hz=float(width), seconds=1.0, leads=("I",), crops=crops)
        self.width = width

    def forward(self, signal: Tensor) -> mb.Features:
        return mb.Features(record=signal[:, 0], embedding=signal[:, 0])


class Twice:
    """Records of two windows each: what a task holds, and its negative."""

    def __init__(self, features: Tensor) -> None:
        self.features, self.fingerprint = features, f"twice {id(features)}"

    def __len__(self) -> int:
        return len(self.features)

    def batch(self, positions: Any, spec: mb.SignalSpec, device: Any = "cpu") -> Tensor:
        return self.features[positions][:, None]

    def windows(self, positions: Any, spec: mb.SignalSpec, device: Any = "cpu") -> Windows:
        one = self.batch(positions, spec)
        if spec.crops is None:
            return one_each(one)
        owners = torch.arange(len(one)).repeat_interleave(2)
        return Windows(torch.stack([one, -one], dim=1).flatten(0, 1), owners)


TABLE = {
    "a": [4.0, 0.0],
    "a again": [0.0, 2.0],
    "b": [1.0, 1.0],
    "b again": [3.0, -1.0],
    "c": [0.0, 1.0],
    "c again": [0.0, 3.0],
}
NAMES = torch.tensor([[2.0, 1.0], [2.0, 0.0], [0.0, 2.0]])  # means of the paraphrases, as they are


def predicted(make_task: Callable[..., Any], tmp_path: Path, crops: mb.Crops | None) -> tuple[mb.Predictions, Any]:
    made = make_task(width=4)
    made = made.change(made.features[:, :2].contiguous())
    model = Model(Reading(2, crops), Spelt(TABLE), Asking(2))
    context = Context(
        "asking",
        lambda: model,
        {made.task.alias: Twice(made.features)},
        lambda name: made.task,
        features=tmp_path / "features",
        identity="asking",
    )
    (measurement,) = ZeroShot().expand([made.task.name])
    with context.guarding("zero_shot"):
        return ZeroShot().run(context, measurement), made


def test_classes_are_asked_for_by_the_mean_of_their_paraphrases(make_task: Callable[..., Any], tmp_path: Path) -> None:
    predictions, made = predicted(make_task, tmp_path, None)
    want = 2 * made.features[made.task.scored] @ NAMES.T - 1
    np.testing.assert_allclose(predictions.scores[0], want.numpy(), rtol=1e-5, atol=1e-5)
    assert predictions.validation is not None
    held_out = made.features[made.task.parts[0].validation]
    np.testing.assert_allclose(predictions.validation[0][0], (2 * held_out @ NAMES.T - 1).numpy(), rtol=1e-5, atol=1e-5)
    assert predictions.kind == "logit"
    assert predictions.details["scored_by"] == "the model's own heads"


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_the_scores_of_crops_are_pooled_as_the_encoder_says(make_task: Callable[..., Any], tmp_path: Path, pool: Any) -> None:
    predictions, made = predicted(make_task, tmp_path, mb.Crops(pool=pool))
    there = made.features[made.task.scored] @ NAMES.T
    want = -torch.ones_like(there) if pool == "mean" else 2 * there.abs() - 1
    np.testing.assert_allclose(predictions.scores[0], want.numpy(), rtol=1e-5, atol=1e-5)
