"""Metrics of estimated quantities, such as age in years.

Shapes: N records, C quantities, R sets of weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import melp_bench as mb
from melp_plugins.metrics.means import mean_of_drawn

Floats = NDArray[np.float64]
Estimates = NDArray[np.floating[Any]]


def mae_metric() -> mb.Metric:
    """Return the mean absolute error, in the quantity's own unit."""
    return mb.Metric("mae", "mean absolute error", weighted_mae, False, (0.0, np.inf), "values")


def r2_metric() -> mb.Metric:
    """Return the share of the variance that the estimates explain: 0 for the mean of the scored records, below it if worse."""
    return mb.Metric("r2", "R2", weighted_r2, bounds=(-np.inf, 1.0), needs="values")


def weighted_mae(estimates: Estimates, truth: NDArray[Any], weights: Floats) -> Floats:
    """Return the mean absolute error of each quantity, (C, R); NaN where nothing was drawn."""
    return mean_of_drawn(np.abs(estimates - truth).T @ weights, weights)


def weighted_r2(estimates: Estimates, truth: NDArray[Any], weights: Floats) -> Floats:
    """Return the coefficient of determination of each quantity, (C, R); NaN where what was drawn does not vary."""
    drawn = weights.sum(axis=0)
    mean = mean_of_drawn(truth.T.astype(np.float64) @ weights, weights)  # (C, R)
    total = (truth.T.astype(np.float64) ** 2) @ weights - mean**2 * drawn
    left = ((estimates - truth) ** 2).T @ weights
    rounding = 1e-12 * np.maximum(mean**2 * drawn, 1e-300)
    share: Floats = np.divide(left, total, out=np.full(total.shape, np.nan), where=total > rounding)
    return 1 - share


@mb.hookimpl
def melp_metrics() -> list[mb.Entry[mb.Metric]]:
    """Return the metrics of quantities."""
    return [
        mb.Entry(
            name="mae",
            build=mae_metric,
            summary="mean absolute error, in the quantity's unit",
            source="https://doi.org/10.3354/cr030079",
            license="MIT",
        ),
        mb.Entry(
            name="r2",
            build=r2_metric,
            summary="share of the variance that estimates explain",
            source="https://scikit-learn.org/stable/modules/model_evaluation.html#r2-score",
            license="MIT",
        ),
    ]
