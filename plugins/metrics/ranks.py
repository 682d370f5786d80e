"""Metrics of ranks, 1 for what comes first: how often the right one is among the first, and where it usually is.

The truth of a rank is 1, the place of the right one before a model that finds it.

Shapes: N queries, C directions, R sets of weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import melp_bench as mb
from melp_plugins.metrics.means import mean_of_drawn

Floats = NDArray[np.float64]
Ranks = NDArray[np.floating[Any]]


def recall_metric(k: int) -> mb.Metric:
    """Return how often the right one is among the first `k`."""
    return mb.Metric(f"recall-at-{k}", f"recall at {k}", weighted_recall(k), needs="values")


def median_rank_metric() -> mb.Metric:
    """Return the rank that half of the queries reach."""
    return mb.Metric(
        "median-rank", "median rank", weighted_median, higher_is_better=False, bounds=(1.0, np.inf), needs="values"
    )


def weighted_recall(k: int) -> Callable[[Ranks, NDArray[Any], Floats], Floats]:
    """Return the share of queries whose rank is at most `k`, of each direction, (C, R), as a function."""

    def recall(ranks: Ranks, labels: NDArray[Any], weights: Floats) -> Floats:
        return mean_of_drawn((ranks - labels < k).astype(np.float64).T @ weights, weights)

    return recall


def weighted_median(ranks: Ranks, labels: NDArray[Any], weights: Floats) -> Floats:
    """Return the least rank that at least half of the queries reach, of each direction, (C, R)."""
    found = np.full((ranks.shape[1], weights.shape[1]), np.nan)
    for column in range(ranks.shape[1]):
        order = np.argsort(ranks[:, column], kind="stable")
        reached = np.cumsum(weights[order], axis=0)  # (N, R)
        drawn = reached[-1] > 0
        place = (reached >= reached[-1] / 2).argmax(axis=0)
        found[column, drawn] = ranks[order, column][place[drawn]]
    return found


@mb.hookimpl
def melp_metrics() -> list[mb.Entry[mb.Metric]]:
    """Return the metrics of ranks."""
    source = "https://arxiv.org/abs/2103.00020"
    return [
        *(
            mb.Entry(
                name=f"recall-at-{k}",
                build=lambda k=k: recall_metric(k),
                summary=f"how often the right one is among the first {k}",
                source=source,
                license="MIT",
            )
            for k in (1, 5, 10)
        ),
        mb.Entry(
            name="median-rank",
            build=median_rank_metric,
            summary="the rank that half of the queries reach",
            source=source,
            license="MIT",
        ),
    ]
