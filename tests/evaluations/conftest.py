from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from melp_bench.evaluations.subject import Subject, TaskData


@pytest.fixture
def make_task() -> Callable[..., TaskData]:
    """Return a maker of tasks: Gaussian features, moved by `signal` along one direction per positive class."""

    def make(
        *,
        name: str = "s/x",
        classes: tuple[str, ...] = ("a", "b", "c"),
        records: int = 400,
        width: int = 12,
        signal: float = 2.0,
        split: str = "holdout",
        seed: int = 0,
    ) -> TaskData:
        generator = np.random.default_rng(seed)
        labels = generator.random((records, len(classes))) < 0.3
        directions = np.linalg.qr(np.random.default_rng(99).standard_normal((width, width)))[0][: len(classes)]
        features = generator.standard_normal((records, width)) + signal * (labels - 0.3) @ directions
        return TaskData(
            name=name,
            classes=classes,
            labels=labels,
            record_ids=np.array([f"r{i:05d}" for i in range(records)]),
            patients=np.array([f"p{i // 2:05d}" for i in range(records)]),
            folds=np.arange(records) // 2 % 10 + 1,
            split=split,  # type: ignore[arg-type]
            embedding=torch.tensor(3 * features + 5, dtype=torch.float32),
            record=torch.tensor(features, dtype=torch.float32),
            prompts={c: (f"{c}", f"{c} again") for c in classes},
        )

    return make


@pytest.fixture
def mute() -> Subject:
    """Return a model without a text encoder."""
    return Subject("mute", None)
