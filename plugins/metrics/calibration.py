"""Metrics of probabilities: whether a record said to have a class with 70 % has it seven times in ten.

Papers: Brier 1950, Verification of forecasts expressed in terms of probability; expected calibration error, Naeini et al. 2015
and Guo et al. 2017 (arXiv 1706.04599). Both are taken of each class on its own, as multi-label probabilities are.
A calibration error of few records is too large, as each bin strays by chance, and larger still on resamples, which repeat
records: with fewer bins less so. The Brier score has no such fault.
Shapes: N records, C classes, R sets of weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import melp_bench as mb
from melp_plugins.metrics.means import mean_of_drawn

Floats = NDArray[np.float64]
Scores = NDArray[np.floating[Any]]


def brier_metric() -> mb.Metric:
    """Return the mean squared distance of probabilities from what was true."""
    return mb.Metric("brier", "Brier score", weighted_brier, higher_is_better=False, needs="probabilities")


def ece_metric(*, bins: int = 15) -> mb.Metric:
    """Return the distance of mean probability from frequency, in `bins` equal bins, mean over the records.

    Raises:
        UserError: there is no bin.
    """
    if bins < 1:
        raise mb.UserError(f"option 'bins' is {bins!r}; wanted at least 1, as 15")
    name = "ece" + ("" if bins == 15 else f"-{bins}")
    label = "calibration error" + ("" if bins == 15 else f" ({bins} bins)")
    return mb.Metric(name, label, weighted_ece(bins), higher_is_better=False, needs="probabilities")


def weighted_brier(probabilities: Scores, labels: NDArray[Any], weights: Floats) -> Floats:
    """Return the Brier score of each class, shape (C, R)."""
    return mean_of_drawn(((probabilities - labels) ** 2).T @ weights, weights)


def weighted_ece(bins: int) -> Callable[[Scores, NDArray[Any], Floats], Floats]:
    """Return the expected calibration error in `bins` bins, of each class, as a function."""

    def ece(probabilities: Scores, labels: NDArray[Any], weights: Floats) -> Floats:
        gaps = (probabilities - labels).astype(np.float64)  # (N, C)
        places = np.minimum((probabilities * bins).astype(np.int64), bins - 1)  # (N, C)
        sums = [np.abs(_by_bin(places[:, c], gaps[:, c], bins) @ weights).sum(axis=0) for c in range(gaps.shape[1])]
        return mean_of_drawn(np.array(sums), weights)

    return ece


def _by_bin(places: NDArray[np.int64], gaps: Floats, bins: int) -> Any:
    """Return the matrix (bins, N) that sums weighted gaps by bin."""
    from scipy.sparse import csr_array

    return csr_array((gaps, (places, np.arange(len(gaps)))), shape=(bins, len(gaps)))


@mb.hookimpl
def melp_metrics() -> list[mb.Entry[mb.Metric]]:
    """Return the metrics of probabilities."""
    return [
        mb.Entry(
            name="ece",
            build=ece_metric,
            summary="expected calibration error of each class, mean over the classes",
            source="https://arxiv.org/abs/1706.04599",
            license="MIT",
        ),
        mb.Entry(
            name="brier",
            build=brier_metric,
            summary="mean squared error of probabilities, mean over the classes",
            source="https://doi.org/10.1175/1520-0493(1950)078%3C0001:VOFEIT%3E2.0.CO;2",
            license="MIT",
        ),
    ]
