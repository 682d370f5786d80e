"""Intervals from resamples that hold where a class has few positives.

A percentile interval is too narrow there: resamples of m positives vary by (m - 1) / m of what they should, of one positive not
at all, and a variance that was estimated from three is itself uncertain. docs/statistics.md has the coverage of both.

- A class's number is a mean over its support: the patients with its rarer answer, or all patients (see `Metric.of_records`).
  Its variance per patient, s^2 = v m^2 / (m - 1) of the resamples' variance v, is moderated: it is the mean of s^2, with m - 1
  degrees of freedom, and of what the classes have together, with `PRIOR` (Smyth 2004). So a class of one positive has a
  variance, too.
- The variance of a macro mean adds these up, with the correlations of the resamples; its degrees of freedom are those of
  Satterthwaite 1946.
- The interval is that of Student's t on the logit scale, so that it stays within the metric's bounds and is longer to the
  farther one. At a bound, where a variance says nothing, the number is taken to be half a patient away from it, and so is its
  standard error, which is about the rule of three; a number that is nearer than a tenth of that is taken to be a tenth away.
- A metric without two finite bounds keeps its percentiles.

Shapes: R resamples, K numbers of a metric per class, or one over all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melp_bench.metrics.ranking import Floats

PRIOR = 4.0  # degrees of freedom of what the classes have in common
MOST = 9.0  # that a class adds to it: else the most frequent class would be all of it
Bounds = tuple[float, float]


def supports(labels: NDArray[Any], patients: NDArray[Any], *, of_records: bool) -> Floats:
    """Return the support of each class of `labels` (N, C), shape (C,): patients, or those with its rarer answer."""
    names = np.unique(patients)
    if of_records:
        return np.full(labels.shape[1], float(len(names)))
    positive = labels.astype(bool)
    have = [[len(np.unique(patients[answer[:, c]])) for answer in (positive, ~positive)] for c in range(labels.shape[1])]
    rarer: Floats = np.array(have, dtype=np.float64).reshape(-1, 2).min(axis=1)
    return rarer


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """The moderated variance of each class's number (K,) and of their mean, with degrees of freedom; NaN is not known."""

    variance: Floats
    freedom: Floats
    macro_variance: float
    macro_freedom: float


def uncertainty(point: Floats, resampled: Floats, support: Floats, bounds: Bounds) -> Uncertainty:
    """Return how uncertain numbers `point` (K,) and their mean are, given resamples (R, K) and the supports (K,)."""
    deviations = np.where(np.isnan(resampled), 0.0, resampled - point)  # a resample that lost a class says nothing of it
    counts = (~np.isnan(resampled)).sum(axis=0)
    centred = np.where(np.isnan(resampled), 0.0, resampled - _mean(resampled, counts))
    drawn = (centred**2).sum(axis=0) / np.maximum(counts - 1, 1)
    freedom = np.maximum(support - 1, 0.0)
    each = np.where(freedom > 0, drawn * support**2 / np.maximum(freedom, 1.0), 0.0)
    shares = np.minimum(freedom, MOST)
    if shares.sum() == 0 or len(resampled) < 2:
        unknown = np.full(len(point), math.nan)
        return Uncertainty(unknown, unknown, math.nan, math.nan)
    common = (shares * each).sum() / shares.sum()
    variance = (PRIOR * common + freedom * each) / (PRIOR + freedom) / support
    least = _half_a_patient(support, bounds)
    at_bound = np.minimum(point - bounds[0], bounds[1] - point) <= 0
    variance = np.where(at_bound, np.maximum(variance, least**2), variance)
    together = np.atleast_2d(np.cov(deviations.T))
    scale = np.sqrt(np.divide(variance, np.diag(together), out=np.zeros(len(point)), where=np.diag(together) > 0))
    together = together * scale[:, None] * scale
    np.fill_diagonal(together, variance)
    independent = variance.sum() / len(point) ** 2
    macro = max(float(together.mean()), 0.25 * float(independent))  # however classes make up for each other by chance
    squares = float((variance**2 / (PRIOR + freedom)).sum())
    total = float(variance.sum()) ** 2
    return Uncertainty(variance, PRIOR + freedom, macro, total / squares if squares > 0 else math.inf)


def logit_interval(value: float, variance: float, freedom: float, level: float, bounds: Bounds, support: float) -> Bounds:
    """Return the interval of a number between finite `bounds`, on the logit scale; the bounds where its variance is unknown."""
    from scipy.special import stdtrit  # a second's import, which a run with nothing to compute is spared

    low, high = bounds
    if math.isnan(variance) or high <= low:
        return bounds
    least = _half_a_patient(np.array([support]), bounds)[0] / (high - low) * (1.0 if value in bounds else 0.1)
    share = min(max((value - low) / (high - low), least), 1 - least)
    half = float(stdtrit(freedom if math.isfinite(freedom) else 1e9, (1 + level) / 2))
    half *= math.sqrt(variance) / (high - low) / (share * (1 - share))
    centre = math.log(share / (1 - share))
    ends = (low + (high - low) * _sigmoid(centre + sign * half) for sign in (-1, 1))
    return next(ends), next(ends)


def percentile_interval(resampled: Floats, level: float, empty: Bounds) -> Bounds:
    """Return the central `level` of the resampled values that exist; `empty` (nothing is known) if there is none."""
    known = resampled[~np.isnan(resampled)]
    if len(known) == 0:
        return empty
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _half_a_patient(support: Floats, bounds: Bounds) -> Floats:
    """Return what half a wrong patient among the support and one more would move the number."""
    return (bounds[1] - bounds[0]) * 0.5 / (support + 1)


def _mean(resampled: Floats, counts: NDArray[np.int64]) -> Floats:
    mean: Floats = np.nansum(resampled, axis=0) / np.maximum(counts, 1)
    return mean


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(max(x, -700.0)) / (1 + math.exp(max(x, -700.0)))
