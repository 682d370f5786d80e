"""Is one model better than another on the same records? A paired bootstrap by patient.

Both models meet the same resamples, so that what is hard about a patient cancels in the difference. Two intervals that
overlap say little; the interval of the difference says whether the two can be told apart. Its p-value is that of a normal
difference with the resamples' standard deviation: one counted from resamples ends at one over their number, which Holm's
correction for many pairs would never let through.

Shapes: S probe seeds (each model its own number), N records, C classes, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melp_bench.metrics.bootstrap import Given, bootstrap
from melp_bench.metrics.intervals import percentile_interval
from melp_bench.metrics.metric import Metric
from melp_bench.metrics.ranking import Floats


@dataclass(frozen=True)
class Difference:
    """First minus second, with its interval, and the chance of one as large, either way, between equal models."""

    value: float
    low: float
    high: float
    p: float

    @property
    def separable(self) -> bool:
        """True if the interval leaves zero out."""
        return self.low > 0 or self.high < 0


def paired_difference(
    first: NDArray[np.floating[Any]],
    second: NDArray[np.floating[Any]],
    labels: NDArray[Any],
    patients: NDArray[Any],
    *,
    metric: Metric,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Difference:
    """Return the difference of macro `metric` of two models' scores on the same records.

    `first` and `second` are (S, N, C) or (N, C) as the metric needs them, `labels` (N, C), `patients` (N,).

    Raises:
        ValueError: shapes do not fit, a score is not finite, or the metric is defined of no class.
    """
    given = [Given(metric, scores[None] if scores.ndim == 2 else scores, labels) for scores in (first, second)]
    one, two = bootstrap(given, patients, level=level, resamples=resamples, seed=seed)
    if not one.scorable.any():
        raise ValueError(f"{metric.label} is defined of no class; there is nothing to compare")
    value = one.macro()[0] - two.macro()[0]
    return difference_of(value, one.resampled_macro(), two.resampled_macro(), level)


def difference_of(value: float, first: Floats, second: Floats, level: float) -> Difference:
    """Return the difference `value` with the interval of paired resamples `first` (R,) minus `second` (R,).

    Raises:
        ValueError: the two were not resampled equally often.
    """
    if first.shape != second.shape:
        raise ValueError(f"{first.shape[0]} and {second.shape[0]} resamples cannot be paired")
    low, high = percentile_interval(first - second, level, empty=(-math.inf, math.inf))
    return Difference(value, low, high, normal_p(value, first - second))


def normal_p(value: float, resampled: Floats) -> float:
    """Return the two-sided p-value of `value` against zero, given its resamples (R,); 1 where they say nothing."""
    known = resampled[~np.isnan(resampled)]
    error = float(known.std(ddof=1)) if len(known) > 1 else math.nan
    if math.isnan(error) or value == 0:
        return 1.0
    return math.erfc(abs(value) / error / math.sqrt(2)) if error > 0 else 0.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number, in the order given (Holm 1979): below a level, that pair differs.

    The chance of one false difference among all is at most the level.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [1.0] * len(p_values), 0.0
    for place, which in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[which]))
        adjusted[which] = largest
    return adjusted
