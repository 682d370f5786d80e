"""Regression: a ridge on frozen embeddings that estimates a quantity, such as age in years.

Embeddings are standardised by the training part, the target by its mean; the ridge is solved in closed form (float64) at all
strengths at once, and the strength of the lowest mean absolute error on validation is taken, the largest of equals. Records of
which the quantity is unknown take no part.

Shapes: N records, n records asked for, P embedding channels, K strengths.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import melp_bench as mb
from melp_bench.splits import Positions, SplitPart
from melp_plugins.evaluations.pooling import pooled, require_parts
from melp_plugins.evaluations.probe import standardise

STRENGTHS = tuple(10.0**power for power in range(-3, 6))  # per training record
QUANTITIES = ("age",)


@dataclass(frozen=True)
class Ridge:
    """A fitted ridge."""

    weight: Tensor  # (P,) float64, on standardised embeddings
    offset: float
    mean: Tensor  # (P,)
    scale: Tensor  # (P,)
    strength: float

    def estimate(self, embedding: Tensor) -> NDArray[np.float64]:
        """Return the estimates (n,) of `embedding` (n, P)."""
        standard = (embedding.double() - self.mean) * self.scale
        return np.asarray((standard @ self.weight + self.offset).numpy(), dtype=np.float64)


class Regression(mb.Evaluation):
    """One row per task, whose records and split it takes and whose classes count nothing."""

    version = 1
    label = "regression"
    metrics = ("mae", "r2")

    def __init__(self, *, quantity: str = "age") -> None:
        """Check the option.

        Raises:
            UserError: the quantity is none that records have.
        """
        if quantity not in QUANTITIES:
            raise mb.UserError(f"evaluation 'regression' has the quantity {quantity!r}; wanted {', '.join(QUANTITIES)}")
        self.quantity = quantity

    def expand(self, tasks: Sequence[str]) -> Iterable[mb.Measurement]:
        """Return a row per task."""
        options: dict[str, Any] = {"quantity": self.quantity, "strengths": list(STRENGTHS)}
        return [mb.Measurement(task, (task,), self.quantity, options) for task in tasks]

    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        """Return the estimates (1, N, 1).

        Raises:
            NotApplicable: a part of the split has no record of which the quantity is known.
        """
        task = of_known_age(context.task(measurement.task))
        require_parts(task)
        embedding = context.features(context.task(measurement.task)).embedding
        ages = task.ages
        ridges = [fit_ridge(embedding, ages, part) for part in task.parts]

        def score(part: int, positions: Positions) -> NDArray[np.float64]:
            return ridges[part].estimate(embedding[positions])[None, :, None]

        details = {
            "strengths": [ridge.strength for ridge in ridges],
            "training_records": sorted({len(part.train) for part in task.parts}),
        }
        return pooled(task, score, kind="value", scales_differ=False, details=details)


def of_known_age(task: mb.TaskRecords) -> mb.TaskRecords:
    """Return the task with the age as what is asked, and only records of known age in its parts."""
    known = np.isfinite(task.ages)
    parts = tuple(SplitPart(*(p[known[p]] for p in (part.train, part.validation, part.test))) for part in task.parts)
    labels: NDArray[Any] = task.ages[:, None]
    return replace(task, classes=("age",), labels=labels, parts=parts)


def fit_ridge(embedding: Tensor, target: NDArray[np.float64], part: SplitPart) -> Ridge:
    """Return the ridge of the strength that validation chooses, fitted to `target` (N,) on `embedding` (N, P)."""
    mean, scale = standardise(embedding[part.train])
    x = (embedding[part.train].double() - mean) * scale  # (n, P)
    y = torch.from_numpy(target[part.train])
    offset = float(y.mean())
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    projected = vectors.T @ (x.T @ (y - offset)) / len(x)
    weights = [vectors @ (projected / (values.clamp_min(0) + strength)) for strength in STRENGTHS]
    fits = [Ridge(weight, offset, mean, scale, strength) for weight, strength in zip(weights, STRENGTHS, strict=True)]
    wanted = target[part.validation]
    errors = [float(np.abs(fit.estimate(embedding[part.validation]) - wanted).mean()) for fit in fits]
    best = min(errors)
    return next(fit for fit, error in zip(reversed(fits), reversed(errors), strict=True) if error == best)


@mb.hookimpl
def melp_evaluations() -> list[mb.Entry[mb.Evaluation]]:
    """Return regression."""
    return [
        mb.Entry(
            "regression",
            Regression,
            "a ridge on frozen embeddings that estimates age",
            "https://doi.org/10.1080/00401706.1970.10488634",
            "MIT",
        )
    ]
