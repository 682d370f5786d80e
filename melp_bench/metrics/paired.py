"""Is one model better than another on the same records? A paired bootstrap by patient.

Both models meet the same resamples, so that what is hard about a patient cancels in the difference. Two intervals that
overlap say little; the interval of the difference says whether the two can be told apart.

Shapes: S probe seeds (each model its own number), N records, C classes, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melp_bench.metrics.bootstrap import bootstrap, percentile_interval
from melp_bench.metrics.ranking import Floats


@dataclass(frozen=True)
class Difference:
    """First minus second, with its interval."""

    value: float
    low: float
    high: float

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
    metric: str = "auroc",
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Difference:
    """Return the difference of macro `metric` ("auroc" or "auprc") of two models' scores on the same records.

    `first` and `second` are (S, N, C) or (N, C), `labels` (N, C), `patients` (N,).

    Raises:
        ValueError: shapes do not fit, a score is not finite, or no class has both answers.
    """
    one = bootstrap(first, labels, patients, level=level, resamples=resamples, seed=seed)
    two = bootstrap(second, labels, patients, level=level, resamples=resamples, seed=seed)
    if not one.scorable.any():
        raise ValueError("no class has a positive and a negative; there is nothing to compare")
    value = one.macro(metric)[0] - two.macro(metric)[0]
    return difference_of(value, one.resampled_macro(metric), two.resampled_macro(metric), level)


def difference_of(value: float, first: Floats, second: Floats, level: float) -> Difference:
    """Return the difference `value` with the interval of paired resamples `first` (R,) minus `second` (R,).

    Raises:
        ValueError: the two were not resampled equally often.
    """
    if first.shape != second.shape:
        raise ValueError(f"{first.shape[0]} and {second.shape[0]} resamples cannot be paired")
    return Difference(value, *percentile_interval(first - second, level, empty=(-1.0, 1.0)))
