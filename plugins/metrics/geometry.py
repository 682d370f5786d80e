"""Metrics of how embeddings lie in their space: effective rank, uniformity, alignment.

What they are measured on comes from the evaluation `representation`: a column for each of `QUANTITIES`, in which every record
has the whole's number plus what the record moves it by (its influence), so that the mean over records is the number and the
mean over a resample is what the number would be there, to first order (the infinitesimal jackknife, Efron 1982). The truth of
the last column says with 1 which records have another one of the same patient; others are in no mean of it.

Papers: RankMe, Garrido et al. 2022 (arXiv:2210.02885); Wang and Isola 2020 (arXiv:2005.10242).
Shapes: N records, R sets of weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import melp_bench as mb

Floats = NDArray[np.float64]
QUANTITIES = ("effective rank", "uniformity", "alignment")


def mean_of_column(column: int) -> Callable[[NDArray[np.floating[Any]], NDArray[Any], Floats], Floats]:
    """Return the mean of a column over the drawn records whose truth is 1, (R,), as a function; NaN where there is none."""

    def mean(values: NDArray[np.floating[Any]], counts: NDArray[Any], weights: Floats) -> Floats:
        if values.shape[1] != len(QUANTITIES):
            return np.full(weights.shape[1], np.nan)
        drawn = weights * counts[:, column, None]  # (N, R)
        total = drawn.sum(axis=0)
        found: Floats = np.divide(values[:, column] @ drawn, total, out=np.full(len(total), np.nan), where=total > 0)
        return found

    return mean


def effective_rank_metric() -> mb.Metric:
    """Return in how many directions embeddings lie: the exponential of the entropy of their singular values' shares."""
    return mb.Metric("effective-rank", "effective rank", mean_of_column(0), True, (0.0, np.inf), "values", descriptive=True)


def uniformity_metric() -> mb.Metric:
    """Return how evenly unit embeddings lie on their sphere: the log of the mean of exp(-2 |x - y|^2); 0 where all are one."""
    return mb.Metric("uniformity", "uniformity", mean_of_column(1), False, (-np.inf, np.inf), "values", descriptive=True)


def alignment_metric() -> mb.Metric:
    """Return the mean squared distance of unit embeddings of one patient."""
    return mb.Metric("alignment", "alignment", mean_of_column(2), False, (0.0, np.inf), "values", descriptive=True)


@mb.hookimpl
def melp_metrics() -> list[mb.Entry[mb.Metric]]:
    """Return the metrics of a space."""
    wang = "https://arxiv.org/abs/2005.10242"
    return [
        mb.Entry(
            name="effective-rank",
            build=effective_rank_metric,
            summary="in how many directions embeddings lie (RankMe)",
            source="https://arxiv.org/abs/2210.02885",
            license="MIT",
        ),
        mb.Entry(
            name="uniformity",
            build=uniformity_metric,
            summary="how evenly embeddings lie on their sphere",
            source=wang,
            license="MIT",
        ),
        mb.Entry(
            name="alignment",
            build=alignment_metric,
            summary="squared distance of embeddings of one patient",
            source=wang,
            license="MIT",
        ),
    ]
