"""Percentile bootstrap of ranking metrics, resampled by patient.

Whole patients are drawn with replacement, so that the several records of one patient stay together; a record's weight in
a resample is the number of times its patient was drawn. Scores are sorted once per class, not once per resample.
Which patients are drawn depends on the patients' names and the seed alone, so that two models scored on the same records
meet the same resamples (see `paired`), and the order of the records cannot matter.

Rule: a resample can lose every positive (or every negative) of a class. Its macro mean is then taken over the classes that
remain in that resample, and `lost` counts such resamples. A class's own interval is over the resamples that keep it.

Shapes: S probe seeds, N records, C classes, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melp_bench.metrics.ranking import Floats, weighted_ranking

VERSION = 1
"""Raise with any change that can move an interval."""

CHUNK = 1 << 18  # weights held at once: resamples are worked through in blocks that stay near the cache


@dataclass(frozen=True)
class Bootstrap:
    """Metrics of every class on the records as they are and on every resample; means over the seeds.

    A class without a positive or without a negative is NaN throughout and in no macro mean.
    """

    auroc: Floats  # (C,)
    auprc: Floats  # (C,)
    seed_auroc: Floats  # (S,) macro AUROC of each seed
    resampled_auroc: Floats  # (R, C), NaN where a resample lost the class
    resampled_auprc: Floats  # (R, C)
    level: float

    @cached_property
    def scorable(self) -> NDArray[np.bool_]:
        """Which classes have both answers among the records, shape (C,)."""
        return ~np.isnan(self.auroc)

    @property
    def lost(self) -> int:
        """Resamples in which at least one scorable class lost all its positives or all its negatives."""
        return int(np.isnan(self.resampled_auroc[:, self.scorable]).any(axis=1).sum())

    def macro(self, metric: str) -> tuple[float, float, float]:
        """Return the macro mean of "auroc" or "auprc" over scorable classes, and its interval."""
        return self._with_interval(float(self._point(metric)[self.scorable].mean()), self.resampled_macro(metric))

    def of_class(self, metric: str, column: int) -> tuple[float, float, float]:
        """Return "auroc" or "auprc" of one scorable class, and its interval."""
        return self._with_interval(float(self._point(metric)[column]), self._resampled(metric)[:, column])

    def resampled_macro(self, metric: str) -> Floats:
        """Return the macro mean of each resample over the classes that remain in it, shape (R,); NaN if none remains."""
        values = self._resampled(metric)[:, self.scorable]
        remaining = (~np.isnan(values)).sum(axis=1)
        sums = np.nansum(values, axis=1)
        means: Floats = np.divide(sums, remaining, out=np.full(len(values), np.nan), where=remaining > 0)
        return means

    def _point(self, metric: str) -> Floats:
        return {"auroc": self.auroc, "auprc": self.auprc}[metric]

    def _resampled(self, metric: str) -> Floats:
        return {"auroc": self.resampled_auroc, "auprc": self.resampled_auprc}[metric]

    def _with_interval(self, value: float, resampled: Floats) -> tuple[float, float, float]:
        return (value, *percentile_interval(resampled, self.level, empty=(0.0, 1.0)))


def percentile_interval(resampled: Floats, level: float, empty: tuple[float, float]) -> tuple[float, float]:
    """Return the central `level` of the resampled values that exist; `empty` (nothing is known) if there is none."""
    known = resampled[~np.isnan(resampled)]
    if len(known) == 0:
        return empty
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap(
    scores: NDArray[np.floating[Any]],
    labels: NDArray[Any],
    patients: NDArray[Any],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Bootstrap:
    """Return the metrics of `scores` (S, N, C) or (N, C) against `labels` (N, C) with their resamples by `patients` (N,).

    Raises:
        ValueError: shapes do not fit, a score is not finite, or `level` or `resamples` makes no interval.
    """
    stack = scores[None] if scores.ndim == 2 else scores
    _check(stack, labels, patients, level, resamples)
    positive = labels.astype(bool)
    names, patient = np.unique(patients, return_inverse=True)
    generator = np.random.default_rng(seed)
    point = _measure(stack, positive, np.ones((len(patients), 1)))  # (2, S, C, 1)
    blocks, step = [], max(1, CHUNK // max(1, len(patients)))
    for start in range(0, resamples, step):
        times = _draw(generator, len(names), min(step, resamples - start))  # (patients, r)
        blocks.append(_measure(stack, positive, times[patient]).mean(axis=1))  # (2, C, r)
    resampled = np.concatenate(blocks, axis=2).transpose(0, 2, 1)  # (2, R, C)
    scorable = ~np.isnan(point[0, 0, :, 0])
    seed_auroc = point[0, :, scorable, 0].mean(axis=0) if scorable.any() else np.full(len(stack), np.nan)
    mean = point[..., 0].mean(axis=1)  # (2, C)
    return Bootstrap(mean[0], mean[1], seed_auroc, resampled[0], resampled[1], level)


def _draw(generator: np.random.Generator, num_patients: int, count: int) -> Floats:
    """Return how often each patient is drawn in `count` resamples, shape (patients, count)."""
    drawn = generator.integers(num_patients, size=(count, num_patients))
    flat = (drawn + num_patients * np.arange(count)[:, None]).ravel()
    times = np.bincount(flat, minlength=count * num_patients).reshape(count, num_patients)
    return np.ascontiguousarray(times.T, dtype=np.float64)


def _measure(stack: NDArray[np.floating[Any]], positive: NDArray[np.bool_], weights: Floats) -> Floats:
    """Return AUROC and average precision under each set of weights (N, r), shape (2, S, C, r)."""
    return np.array(
        [[weighted_ranking(one[:, c], positive[:, c], weights) for c in range(positive.shape[1])] for one in stack]
    ).transpose(2, 0, 1, 3)


def _check(
    stack: NDArray[np.floating[Any]], labels: NDArray[Any], patients: NDArray[Any], level: float, resamples: int
) -> None:
    if stack.ndim != 3 or stack.shape[1:] != labels.shape or patients.shape != labels.shape[:1]:
        raise ValueError(
            f"scores {stack.shape}, labels {labels.shape} and patients {patients.shape} do not fit; "
            "wanted (seeds, records, classes), (records, classes) and (records,)"
        )
    if stack.size == 0:
        raise ValueError(f"scores {stack.shape} hold nothing to measure")
    if not np.isfinite(stack).all():
        raise ValueError(f"{int((~np.isfinite(stack)).sum())} of {stack.size} scores are not finite")
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(f"level {level!r} with {resamples!r} resamples; wanted 0 < level < 1 and at least one resample")
