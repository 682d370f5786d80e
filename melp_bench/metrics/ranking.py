"""Ranking metrics of multi-label scores: area under the ROC curve and average precision, with ties and with weights.

Only the order of a class's scores counts. Tied scores count half in the AUROC (Mann-Whitney) and enter the
precision-recall curve together. A class without a positive or without a negative has neither metric: it is NaN.

Shapes: N records, C classes, R sets of weights, G groups of tied scores that hold a positive.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

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
    ranked = np.sort(np.ascontiguousarray(scores.T), axis=1)  # (C, N): sorting values takes a third of ranking them all
    wins = np.array([_wins(*column) for column in zip(ranked, scores.T, positive.T, strict=True)])
    pairs = num_positives * num_negatives
    area: Floats = np.divide(wins, pairs, out=np.full(pairs.shape, np.nan), where=pairs > 0)
    return area


def _wins(ranked: NDArray[np.floating[Any]], scores: NDArray[np.floating[Any]], positive: NDArray[np.bool_]) -> float:
    """Return how many pairs a positive wins against a negative, a tie counts half, of (N,) records, `ranked` their scores.

    A score's midrank is half of what is below it and of what is not above it, and one half.
    """
    hits = scores[positive]
    below, through = (int(np.searchsorted(ranked, hits, side).sum()) for side in ("left", "right"))
    return (below + through - len(hits) ** 2) / 2


def average_precision(scores: NDArray[np.floating[Any]], labels: NDArray[Any]) -> Floats:
    """Return the average precision of each class, shape (C,): the sum over thresholds of precision x gain of recall.

    Raises:
        ValueError: the shapes differ or a score is not finite.
    """
    positive = _checked(scores, labels)
    ones = np.ones((len(positive), 1))
    return np.array([weighted_ranking(scores[:, c], positive[:, c], ones)[1][0] for c in range(positive.shape[1])])


def weighted_auroc(scores: NDArray[np.floating[Any]], labels: NDArray[Any], weights: Floats) -> Floats:
    """Return the AUROC of each class of `scores` and `labels` (N, C) under each set of `weights` (N, R), shape (C, R)."""
    area: Floats = _ranked(scores, labels).areas(weights)[0]
    return area


def weighted_precision(scores: NDArray[np.floating[Any]], labels: NDArray[Any], weights: Floats) -> Floats:
    """Return the average precision of each class under each set of weights, shape (C, R)."""
    average: Floats = _ranked(scores, labels).areas(weights)[1]
    return average


def weighted_ranking(scores: NDArray[np.floating[Any]], positive: NDArray[np.bool_], weights: Floats) -> tuple[Floats, Floats]:
    """Return AUROC and average precision of one class under each set of record weights, shapes (R,) and (R,).

    `scores` and `positive` are (N,), `weights` (N, R). Whole-number weights give exact sums. NaN where a set of weights
    leaves no positive or no negative.
    """
    return _Ranking(scores, positive).areas(weights)


class _Ranking:
    """One class's records, sorted once for all sets of weights.

    Both metrics need the weights only summed over the runs of records between tie groups that hold a positive; those sums
    are one sparse product for all R.
    """

    def __init__(self, scores: NDArray[np.floating[Any]], positive: NDArray[np.bool_]) -> None:
        self.empty = not positive.any()
        if self.empty:
            return
        order = np.argsort(-scores, kind="stable")  # descending
        ranked, hit = scores[order], positive[order]
        group = np.concatenate([[0], np.cumsum(ranked[1:] != ranked[:-1])])  # (N,) tie group of each ranked record
        holding = np.unique(group[hit])  # (G,)
        place = np.searchsorted(holding, group)  # (N,) first holding group not above the record
        inside = holding[np.minimum(place, len(holding) - 1)] == group
        run = 2 * place + inside  # odd: inside holding group `place`; even: between two of them
        self._runs = _membership(run, order, 2 * len(holding) + 1, len(order))
        self._hits = _membership(place[hit], order[hit], len(holding), len(order))

    def areas(self, weights: Floats) -> tuple[Floats, Floats]:
        """Return AUROC and average precision under each set of `weights` (N, R), shapes (R,) and (R,)."""
        nothing = np.full(weights.shape[1], np.nan)
        if self.empty:
            return nothing, nothing.copy()
        run_weight = np.asarray(self._runs @ weights, dtype=np.float64)  # (2G + 1, R)
        tp = np.asarray(self._hits @ weights, dtype=np.float64)  # (G, R) positives of the group
        through = np.cumsum(run_weight, axis=0)  # weight of all records down to the end of a run
        tp_through = np.cumsum(tp, axis=0)  # (G, R)
        reached = through[1::2]  # (G, R)
        total_positive = tp_through[-1]
        total_negative = through[-1] - total_positive
        tied = run_weight[1::2] - tp  # negatives that share the group's score
        beaten = total_negative - (reached - tp_through)  # negatives that score below the group
        pairs = total_positive * total_negative
        precision = np.divide(tp_through, reached, out=np.zeros_like(reached), where=reached > 0)
        area = np.divide((tp * (beaten + 0.5 * tied)).sum(axis=0), pairs, out=nothing.copy(), where=pairs > 0)
        average = np.divide((tp * precision).sum(axis=0), total_positive, out=nothing, where=pairs > 0)
        return area, average


class _Ranked:
    """All classes of one array of scores, sorted once; remembers the answer for the weights it was asked for last."""

    def __init__(self, scores: NDArray[np.floating[Any]], labels: NDArray[Any]) -> None:
        positive = labels.astype(bool)
        self._columns = [_Ranking(scores[:, c], positive[:, c]) for c in range(scores.shape[1])]
        self._last: tuple[Floats, Floats] | None = None

    def areas(self, weights: Floats) -> Floats:
        """Return AUROC and average precision of each class, shape (2, C, R)."""
        last = self._last
        if last is not None and last[0] is weights:
            return last[1]
        answer = np.array([column.areas(weights) for column in self._columns]).transpose(1, 0, 2)  # (2, C, R)
        if _is_constant(weights):
            self._last = (weights, answer)
        return answer


_SORTED: dict[tuple[int, int], _Ranked] = {}
"""By the identity of arrays that cannot change, for as long as they live: metrics of one ranking share one sort."""


def _ranked(scores: NDArray[np.floating[Any]], labels: NDArray[Any]) -> _Ranked:
    if not (_is_constant(scores) and _is_constant(labels)):
        return _Ranked(scores, labels)
    key = (id(scores), id(labels))
    found = _SORTED.get(key)
    if found is None:
        found = _SORTED[key] = _Ranked(scores, labels)
        for array in (scores, labels):
            weakref.finalize(array, _SORTED.pop, key, None).atexit = False
    return found


def _is_constant(array: NDArray[Any]) -> bool:
    """Return whether nobody can write to the array, not through another view either."""
    return bool(array.flags.owndata and not array.flags.writeable)


def _membership(row: NDArray[np.int64], column: NDArray[np.int64], num_rows: int, num_columns: int) -> csr_array:
    """Return the matrix that sums the weights of the records `column` by `row`, which never decreases."""
    from scipy.sparse import csr_array  # a second's import, which a run with nothing to compute is spared

    starts = np.searchsorted(row, np.arange(num_rows + 1))
    return csr_array((np.ones(len(column)), column, starts), shape=(num_rows, num_columns))


def _checked(scores: NDArray[np.floating[Any]], labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the labels as booleans after checking both."""
    if scores.ndim != 2 or scores.shape != labels.shape:
        raise ValueError(f"scores are {scores.shape} and labels {labels.shape}; wanted both (records, classes)")
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {scores.size} scores are not finite")
    return labels.astype(bool)
