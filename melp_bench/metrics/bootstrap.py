"""Bootstrap of any metrics, resampled by patient.

Whole patients are drawn with replacement, so that the several records of one patient stay together; a record's weight in
a resample is the number of times its patient was drawn. All metrics meet the same resamples, and those that read the same
scores are given the same arrays, so that what sorts them can sort once (see `ranking`).
Which patients are drawn depends on the patients' names and the seed alone, so that two models scored on the same records
meet the same resamples (see `paired`), and the order of the records cannot matter.

Rule: a resample may not define a metric of a class, as one that lost every positive does not define an AUROC. It says nothing
of that class then, whose deviation from its value is zero in the macro mean, and `lost` counts such resamples. An interval is
made of the resamples' variance, see `intervals`; of a metric without two finite bounds it is their percentiles. It reaches to
its value at least: a metric that is worse of repeated records than of distinct ones, as a calibration error is, may have all
its resamples on one side.

Shapes: S probe seeds, N records, C classes, K = C numbers of a metric per class, or 1 of a metric over all, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melp_bench.metrics.intervals import Uncertainty, logit_interval, percentile_interval, supports, uncertainty
from melp_bench.metrics.metric import Metric
from melp_bench.metrics.ranking import Floats

VERSION = 2
"""Raise with any change that can move an interval."""

CHUNK = 1 << 18  # weights held at once: resamples are worked through in blocks that stay near the cache
Triple = tuple[float, float, float]
"""A value, and the ends of its interval."""


@dataclass(frozen=True, eq=False)
class Given:
    """A metric, and what it is measured on: scores as it needs them."""

    metric: Metric
    scores: NDArray[np.floating[Any]]  # (S, N, C)
    labels: NDArray[Any]  # (N, C)


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """A metric of every class on the records as they are and on every resample.

    A class of which the records do not define the metric is NaN throughout and in no macro mean.
    """

    metric: Metric
    by_seed: Floats  # (S, K)
    resampled: Floats  # (R, K) means over the seeds, NaN where a resample does not define it
    level: float
    support: Floats  # (K,) patients that a number is a mean of, see `intervals.supports`
    per_class: bool = True  # False of a metric that is one number over all classes

    @cached_property
    def point(self) -> Floats:
        """The metric on the records as they are, the mean over the seeds, shape (K,)."""
        mean: Floats = self.by_seed.mean(axis=0)
        return mean

    @cached_property
    def scorable(self) -> NDArray[np.bool_]:
        """Of which classes the records define it, shape (K,)."""
        return ~np.isnan(self.point)

    @property
    def lost(self) -> int:
        """Resamples that do not define it of at least one scorable class."""
        return int(np.isnan(self.resampled[:, self.scorable]).any(axis=1).sum())

    @property
    def seed_macro(self) -> Floats:
        """The macro mean of each seed, shape (S,)."""
        means: Floats = self.by_seed[:, self.scorable].mean(axis=1)
        return means

    def macro(self) -> Triple:
        """Return the macro mean over scorable classes, and its interval."""
        value = float(self.point[self.scorable].mean())
        if not self.metric.bounded:
            return _reaching(value, percentile_interval(self.resampled_macro(), self.level, self.metric.bounds))
        known = self._uncertainty
        support = float(self.support[self.scorable].sum())
        ends = (known.macro_variance, known.macro_freedom, self.level, self.metric.bounds, support)
        return _reaching(value, logit_interval(value, *ends))

    def of_class(self, column: int) -> Triple:
        """Return the metric of one scorable class, and its interval."""
        value = float(self.point[column])
        if not self.metric.bounded:
            return _reaching(value, percentile_interval(self.resampled[:, column], self.level, self.metric.bounds))
        known, place = self._uncertainty, int(self.scorable[:column].sum())
        ends = (float(known.variance[place]), float(known.freedom[place]), self.level, self.metric.bounds)
        return _reaching(value, logit_interval(value, *ends, float(self.support[column])))

    def resampled_macro(self) -> Floats:
        """Return the macro mean of each resample, shape (R,), spread as wide as its standard error says; NaN if it lost all.

        Of a metric without two finite bounds they are as they were drawn.
        """
        values = self.resampled[:, self.scorable]
        deviations = np.where(np.isnan(values), 0.0, values - self.point[self.scorable]).mean(axis=1)
        drawn = float(deviations.std(ddof=1)) if len(deviations) > 1 else 0.0
        known = self._uncertainty.macro_variance if self.metric.bounded else np.nan
        wider = np.sqrt(known) / drawn if drawn > 0 and np.isfinite(known) else 1.0
        means: Floats = self.point[self.scorable].mean() + wider * deviations
        return np.where(np.isnan(values).all(axis=1), np.nan, means)

    @cached_property
    def _uncertainty(self) -> Uncertainty:
        """Of the scorable classes."""
        kept = self.scorable
        return uncertainty(self.point[kept], self.resampled[:, kept], self.support[kept], self.metric.bounds)


def _reaching(value: float, interval: tuple[float, float]) -> Triple:
    return value, min(interval[0], value), max(interval[1], value)


def bootstrap(
    given: Sequence[Given],
    patients: NDArray[Any],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Bootstrap]:
    """Return each metric on what it is given, with its resamples by `patients` (N,), in order.

    Raises:
        ValueError: shapes do not fit, a score is not finite, or `level` or `resamples` makes no interval.
    """
    for one in given:
        _check(one, patients)
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(f"level {level!r} with {resamples!r} resamples; wanted 0 < level < 1 and at least one resample")
    names, patient = np.unique(patients, return_inverse=True)
    generator = np.random.default_rng(seed)
    arrays = _Arrays()
    once = _constant(np.ones((len(patients), 1)))
    point = [_measure(one, arrays, once) for one in given]
    blocks: list[list[Floats]] = [[] for _ in given]
    step = max(1, CHUNK // max(1, len(patients)))
    for start in range(0, resamples, step):
        times = _draw(generator, len(names), min(step, resamples - start))  # (patients, r)
        weights = _constant(times[patient])  # (N, r)
        for one, found in zip(given, blocks, strict=True):
            found.append(_measure(one, arrays, weights)[0].mean(axis=0).T)  # (r, K)
    return [
        Bootstrap(one.metric, by_seed[..., 0], np.concatenate(found), level, _support(one, patients, per_class), per_class)
        for one, (by_seed, per_class), found in zip(given, point, blocks, strict=True)
    ]


def _support(one: Given, patients: NDArray[Any], per_class: bool) -> Floats:
    """Return the patients that each of a metric's numbers is a mean of, shape (K,)."""
    if per_class:
        return supports(one.labels, patients, of_records=one.metric.of_records)
    return np.array([float(len(np.unique(patients)))])


class _Arrays:
    """What metrics are handed: arrays that nobody can write to, the same ones for the same scores."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[object, list[NDArray[Any]]]] = {}  # with the original, whose identity is the key

    def __call__(self, stack: NDArray[Any], parts: bool = True) -> list[NDArray[Any]]:
        """Return the parts of `stack` along its first axis, or all of it as one."""
        if id(stack) not in self._made:
            made = [_constant(np.array(part, order="C")) for part in (stack if parts else [stack])]
            self._made[id(stack)] = (stack, made)
        return self._made[id(stack)][1]


def _constant(array: NDArray[Any]) -> NDArray[Any]:
    owned = array if array.flags.owndata else array.copy()
    owned.flags.writeable = False
    return owned


def _draw(generator: np.random.Generator, num_patients: int, count: int) -> Floats:
    """Return how often each patient is drawn in `count` resamples, shape (patients, count)."""
    drawn = generator.integers(num_patients, size=(count, num_patients))
    flat = (drawn + num_patients * np.arange(count)[:, None]).ravel()
    times = np.bincount(flat, minlength=count * num_patients).reshape(count, num_patients)
    return np.ascontiguousarray(times.T, dtype=np.float64)


def _measure(one: Given, arrays: _Arrays, weights: Floats) -> tuple[Floats, bool]:
    """Return the metric under each set of weights (N, r), shape (S, K, r), and whether it has a number per class.

    Raises:
        ValueError: what its function returned has another shape.
    """
    labels = arrays(one.labels, parts=False)[0]
    found = np.array([one.metric.function(scores, labels, weights) for scores in arrays(one.scores)])  # (S, r) or (S, C, r)
    num_sets = weights.shape[1]
    if found.shape[1:] not in ((num_sets,), (labels.shape[1], num_sets)):
        wanted = f"wanted ({labels.shape[1]}, {num_sets}), or ({num_sets},) for one number over all classes"
        raise ValueError(f"metric {one.metric.name!r} returned shape {found.shape[1:]}; {wanted}")
    return (found, True) if found.ndim == 3 else (found[:, None], False)


def _check(one: Given, patients: NDArray[Any]) -> None:
    scores, labels = one.scores, one.labels
    if scores.ndim != 3 or scores.shape[1:] != labels.shape or patients.shape != labels.shape[:1]:
        raise ValueError(
            f"scores {scores.shape}, labels {labels.shape} and patients {patients.shape} do not fit; "
            "wanted (seeds, records, classes), (records, classes) and (records,)"
        )
    if scores.size == 0:
        raise ValueError(f"scores {scores.shape} hold nothing to measure")
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {scores.size} scores are not finite")
