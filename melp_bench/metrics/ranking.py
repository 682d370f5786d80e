"""Ranking metrics of multi-label scores: area under the ROC curve and average precision, with ties and with weights.

Only the order of a class's scores counts. Tied scores count half in the AUROC (Mann-Whitney) and enter the
precision-recall curve together. A class without a positive or without a negative has neither metric: it is NaN.

Shapes: N records, C classes, R sets of weights, G groups of tied scores that hold a positive.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def auroc(scores: NDArray[np.floating[Any]], labels: NDArray[Any]) -> Floats:
    """Return the AUROC of each class, shape (C,): U / (positives x negatives) from midranks (Mann and Whitney 1947).

    `scores` and `labels` are (N, C); any further columns (seeds, say) can be laid beside the classes.

    Raises:
        ValueError: the shapes differ or a score is not finite.
    """
    positive = _checked(scores, labels)
    num_positives = positive.sum(axis=0, dtype=np.float64)
    num_negatives = len(positive) - num_positives
    if len(positive) == 0:
        return np.full(positive.shape[1], np.nan)
    from scipy.stats import rankdata  # a second's import, which a run with nothing to compute is spared

    ranks = rankdata(scores, axis=0)  # (N, C), ties share their mean rank
    wins = np.where(positive, ranks, 0.0).sum(axis=0) - num_positives * (num_positives + 1) / 2
    pairs = num_positives * num_negatives
    area: Floats = np.divide(wins, pairs, out=np.full(pairs.shape, np.nan), where=pairs > 0)
    return area


def average_precision(scores: NDArray[np.floating[Any]], labels: NDArray[Any]) -> Floats:
    """Return the average precision of each class, shape (C,): the sum over thresholds of precision x gain of recall.

    Raises:
        ValueError: the shapes differ or a score is not finite.
    """
    positive = _checked(scores, labels)
    ones = np.ones((len(positive), 1))
    return np.array([weighted_ranking(scores[:, c], positive[:, c], ones)[1][0] for c in range(positive.shape[1])])


def weighted_ranking(scores: NDArray[np.floating[Any]], positive: NDArray[np.bool_], weights: Floats) -> tuple[Floats, Floats]:
    """Return AUROC and average precision of one class under each set of record weights, shapes (R,) and (R,).

    `scores` and `positive` are (N,), `weights` (N, R). The records are sorted once. Both metrics need the weights only
    summed over the runs of records between tie groups that hold a positive; those sums are one sparse product for all R.
    Whole-number weights give exact sums. NaN where a set of weights leaves no positive or no negative.
    """
    if not positive.any():
        return np.full(weights.shape[1], np.nan), np.full(weights.shape[1], np.nan)
    order = np.argsort(-scores, kind="stable")  # descending
    ranked, hit = scores[order], positive[order]
    group = np.concatenate([[0], np.cumsum(ranked[1:] != ranked[:-1])])  # (N,) tie group of each ranked record
    holding = np.unique(group[hit])  # (G,)
    place = np.searchsorted(holding, group)  # (N,) first holding group not above the record
    inside = holding[np.minimum(place, len(holding) - 1)] == group
    run = 2 * place + inside  # odd: inside holding group `place`; even: between two of them
    run_weight = _sums(run, order, 2 * len(holding) + 1, weights)  # (2G + 1, R)
    tp = _sums(place[hit], order[hit], len(holding), weights)  # (G, R) positives of the group

    through = np.cumsum(run_weight, axis=0)  # weight of all records down to the end of a run
    tp_through = np.cumsum(tp, axis=0)  # (G, R)
    reached = through[1::2]  # (G, R)
    total_positive = tp_through[-1]
    total_negative = through[-1] - total_positive
    tied = run_weight[1::2] - tp  # negatives that share the group's score
    beaten = total_negative - (reached - tp_through)  # negatives that score below the group
    pairs = total_positive * total_negative
    precision = np.divide(tp_through, reached, out=np.zeros_like(reached), where=reached > 0)
    nothing = np.full(weights.shape[1], np.nan)
    area = np.divide((tp * (beaten + 0.5 * tied)).sum(axis=0), pairs, out=nothing.copy(), where=pairs > 0)
    average = np.divide((tp * precision).sum(axis=0), total_positive, out=nothing, where=pairs > 0)
    return area, average


def _sums(row: NDArray[np.int64], column: NDArray[np.int64], num_rows: int, weights: Floats) -> Floats:
    """Return the weights of the records `column` summed by `row`, which never decreases, shape (num_rows, R)."""
    starts = np.searchsorted(row, np.arange(num_rows + 1))
    from scipy.sparse import csr_array

    member = csr_array((np.ones(len(column)), column, starts), shape=(num_rows, len(weights)))
    return np.asarray(member @ weights, dtype=np.float64)


def _checked(scores: NDArray[np.floating[Any]], labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the labels as booleans after checking both."""
    if scores.ndim != 2 or scores.shape != labels.shape:
        raise ValueError(f"scores are {scores.shape} and labels {labels.shape}; wanted both (records, classes)")
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {scores.size} scores are not finite")
    return labels.astype(bool)
