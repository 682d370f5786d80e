"""Metrics at a threshold: the maximal F1 and the accuracies that the literature reports beside it.

A threshold that is chosen on the records it is judged on flatters; the published tables do that, and `max_f1` and
`acc_as_published` exist to reproduce them. To judge fairly, choose thresholds with `max_f1` on validation and count with
`accuracy_at` on test.

Shapes: N records, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def max_f1(scores: NDArray[np.floating[Any]], labels: NDArray[Any]) -> tuple[Floats, NDArray[np.floating[Any]]]:
    """Return the maximal F1 of each class over all thresholds, and the lowest threshold that reaches it, both (C,).

    A record is called positive if its score is at least the threshold. F1 is 0 for a class without a positive.
    """
    pairs = [_max_f1(scores[:, c], labels[:, c].astype(bool)) for c in range(scores.shape[1])]
    return np.array([best for best, _ in pairs]), np.array([threshold for _, threshold in pairs], dtype=scores.dtype)


def _max_f1(scores: NDArray[np.floating[Any]], positive: NDArray[np.bool_]) -> tuple[float, np.floating[Any]]:
    thresholds, group = np.unique(scores, return_inverse=True)  # ascending
    called = np.bincount(group)[::-1].cumsum()[::-1]  # records at or above each threshold
    true = np.bincount(group, weights=positive)[::-1].cumsum()[::-1]
    f1 = 2 * true / (called + positive.sum())  # = 2 TP / (2 TP + FP + FN), one division: equal ratios are equal numbers
    best = int(np.argmax(f1))  # the first of equals
    return float(f1[best]), thresholds[best]


def accuracy_at(scores: NDArray[np.floating[Any]], labels: NDArray[Any], thresholds: NDArray[np.floating[Any]]) -> Floats:
    """Return the accuracy of each class, shape (C,), when a score of at least `thresholds` (C,) means positive."""
    right: Floats = ((scores >= thresholds) == labels.astype(bool)).mean(axis=0)
    return right


def acc_as_published(scores: NDArray[np.floating[Any]], labels: NDArray[Any]) -> Floats:
    """Return the ACC of the published zero-shot tables for each class, shape (C,).

    Its threshold is that of the maximal F1 on the same records, but only scores strictly above it count as positive,
    although the F1 counted the record on the threshold as positive. `accuracy_at(scores, labels, max_f1(...)[1])` is the
    accuracy without that slip.
    """
    right: Floats = ((scores > max_f1(scores, labels)[1]) == labels.astype(bool)).mean(axis=0)
    return right
