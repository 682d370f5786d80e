"""Metrics of yes and no: a record is called positive if its score is not below a threshold that validation chose.

Papers: F1, van Rijsbergen 1979. A threshold that is chosen on the records it is judged on flatters; the published ECG tables
do so, and these do not, unless `thresholds = "test"` asks for it: the number on test is not the largest that test would allow.
Scores arrive less their threshold. Shapes: N records, V validation records, C classes, R sets of weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

import melp_bench as mb
from melp_bench.metrics import max_f1

Floats = NDArray[np.float64]
Scores = NDArray[np.floating[Any]]


ChosenOn = Literal["validation", "test"]


def f1_metric(*, thresholds: ChosenOn = "validation") -> mb.Metric:
    """Return F1 at the threshold that has the largest F1 on validation, or on test.

    Raises:
        UserError: there are no such records.
    """
    metric = mb.Metric("max-f1", "macro F1", weighted_f1, needs="thresholds", choose=best_f1_thresholds)
    return _chosen_on(metric, thresholds)


def accuracy_metric(*, thresholds: ChosenOn = "validation") -> mb.Metric:
    """Return accuracy at the threshold that has the largest F1 on validation, or on test, as the literature pairs the two.

    Raises:
        UserError: there are no such records.
    """
    chosen = best_f1_thresholds
    metric = mb.Metric("accuracy", "macro accuracy", weighted_accuracy, needs="thresholds", choose=chosen, counts_all=True)
    return _chosen_on(metric, thresholds)


def _chosen_on(metric: mb.Metric, records: ChosenOn) -> mb.Metric:
    if records not in get_args(ChosenOn):
        raise mb.UserError(f"option 'thresholds' is {records!r}; wanted {' or '.join(get_args(ChosenOn))}")
    if records == "validation":
        return metric
    return replace(metric, name=f"{metric.name}-on-test", label=f"{metric.label} (thresholds on test)", chosen_on="test")


def sensitivity_metric(*, specificity: float = 0.95) -> mb.Metric:
    """Return the sensitivity at the lowest threshold that keeps `specificity` on validation.

    Raises:
        UserError: the specificity is not between 0 and 1.
    """
    if not 0 < specificity < 1:
        raise mb.UserError(f"option 'specificity' is {specificity!r}; wanted more than 0 and less than 1, as 0.95")
    return mb.Metric(
        "sensitivity-at-specificity" + ("" if specificity == 0.95 else f"-{specificity:g}"),
        f"sensitivity at {100 * specificity:g} % specificity",
        weighted_sensitivity,
        needs="thresholds",
        choose=specificity_thresholds(specificity),
    )


def weighted_f1(scores: Scores, labels: NDArray[Any], weights: Floats) -> Floats:
    """Return F1 of each class, shape (C, R); NaN where no positive was drawn."""
    called, positive = scores >= 0, labels.astype(bool)
    hits, positives, calls = ((members.T @ weights) for members in (called & positive, positive, called))  # (C, R) each
    return _share(2 * hits, positives + calls, positives > 0)


def weighted_accuracy(scores: Scores, labels: NDArray[Any], weights: Floats) -> Floats:
    """Return the share of records called what they are, of each class, shape (C, R)."""
    right = ((scores >= 0) == labels.astype(bool)).T @ weights
    drawn = np.broadcast_to(weights.sum(axis=0), right.shape)
    return _share(right, drawn, drawn > 0)


def weighted_sensitivity(scores: Scores, labels: NDArray[Any], weights: Floats) -> Floats:
    """Return the share of positives called positive, of each class, shape (C, R); NaN where no positive was drawn."""
    positive = labels.astype(bool)
    hits, positives = (((scores >= 0) & positive).T @ weights, positive.T @ weights)
    return _share(hits, positives, positives > 0)


def best_f1_thresholds(scores: Scores, labels: NDArray[Any]) -> Floats:
    """Return the lowest threshold with the largest F1 of each class, shape (C,); NaN without both answers."""
    return _where_both(max_f1(scores, labels)[1].astype(np.float64), labels)


def specificity_thresholds(specificity: float) -> Callable[[Scores, NDArray[Any]], Floats]:
    """Return the choice of the lowest threshold below which at least `specificity` of the negatives lie."""

    def choose(scores: Scores, labels: NDArray[Any]) -> Floats:
        thresholds = np.full(scores.shape[1], np.nan)
        for c in range(scores.shape[1]):
            negatives = np.sort(scores[~labels[:, c].astype(bool), c].astype(np.float64))
            if len(negatives):
                kept = math.ceil(specificity * len(negatives) - 1e-9)  # 0.95 x 20 are 19, whatever floats make of it
                thresholds[c] = np.nextafter(negatives[kept - 1], np.inf)
        return _where_both(thresholds, labels)

    return choose


def _where_both(thresholds: Floats, labels: NDArray[Any]) -> Floats:
    positives = labels.astype(bool).sum(axis=0)
    return np.where((positives > 0) & (positives < len(labels)), thresholds, np.nan)


def _share(part: Floats, whole: Floats, known: NDArray[np.bool_]) -> Floats:
    share: Floats = np.divide(part, whole, out=np.full(part.shape, np.nan), where=known)
    return share


@mb.hookimpl
def melp_metrics() -> list[mb.Entry[mb.Metric]]:
    """Return the metrics at a threshold."""
    return [
        mb.Entry(
            name="max-f1",
            build=f1_metric,
            summary="F1 at the threshold that is best on validation, mean over the classes",
            license="MIT",
        ),
        mb.Entry(
            name="accuracy",
            build=accuracy_metric,
            summary="accuracy at the threshold that has the best F1 on validation, mean over the classes",
            license="MIT",
        ),
        mb.Entry(
            name="sensitivity-at-specificity",
            build=sensitivity_metric,
            summary="sensitivity at the threshold that keeps a specificity on validation, mean over the classes",
            license="MIT",
        ),
    ]
