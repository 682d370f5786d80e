"""Which records are worth a look: pairs whose codes agree, from millions of codes in little memory.

Shapes: A anchors, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from melp_bench.leakage.codes import SCALE
from melp_bench.leakage.table import FingerprintTable
from melp_bench.store import Progress

RADIUS = 0.15
"""Codes further apart than this are of different stretches."""

PLANES = 8
"""Dimensions searched: the first principal ones. Distances in them are never larger than in all, so none is missed."""

RECORDS, BLOCK = 2048, 500_000
"""Records of the larger table, and pairs of codes, looked at together: what bounds the memory."""

JITTER_S = 0.03
SUPPORT = 0.6
"""Of the anchors of the record that has fewer, this part must have codes that agree with the other's, all at one lag."""

LAGS = 3
"""Lags looked at per pair of records: beats of a regular rhythm agree one interval off, too."""

Longs = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Candidates:
    """Pairs of records by position, (P,) each, and how many seconds into the first the second would begin."""

    first: Longs
    second: Longs
    lag_s: Floats

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class _Matches:
    """Anchors of two tables with near codes, (P,): their records, their lag, and how near the codes are, 1 for equal to 0."""

    large: Longs
    small: Longs
    lag_s: Floats
    likeness: Floats

    def take(self, rows: Longs | NDArray[np.bool_]) -> _Matches:
        """Return the matches at `rows`."""
        return _Matches(self.large[rows], self.small[rows], self.lag_s[rows], self.likeness[rows])

    def groups(self, *, gap_s: float) -> Longs:
        """Return where a run of one pair of records begins, and of lags no more than `gap_s` apart."""
        begins = np.ones(len(self.large), dtype=np.bool_)
        begins[1:] = (np.diff(self.large) != 0) | (np.diff(self.small) != 0) | (np.diff(self.lag_s) > gap_s)
        return np.flatnonzero(begins)


def candidates(
    first: FingerprintTable, second: FingerprintTable, *, within: bool = False, progress: Progress | None = None
) -> Candidates:
    """Return the pairs of records of `first` and `second` that share a stretch by their codes, with up to three lags each.

    With `within`, both are one table, and every pair is found once and none with itself.
    """
    found: list[tuple[Longs, Longs, Floats]] = []
    swap = len(first.codes) < len(second.codes)
    large, small = (second, first) if swap else (first, second)
    for matches in _matches(large, small, within, progress):
        best = _supported(matches, large, small)
        found.append((best.small, best.large, -best.lag_s) if swap else (best.large, best.small, best.lag_s))
    empty = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return Candidates(*(np.concatenate(parts) for parts in zip(empty, *found, strict=True)))


def _matches(large: FingerprintTable, small: FingerprintTable, within: bool, progress: Progress | None) -> Iterator[_Matches]:
    """Yield all pairs of anchors whose codes are near, some records of `large` at a time."""
    if not len(small.codes):
        return
    axes = _axes(small)
    tree = cKDTree(_projected(small.codes, axes))
    of_large, of_small = large.records.astype(np.int64), small.records.astype(np.int64)
    ends = np.concatenate([[0], np.cumsum(large.counts)])
    for start in range(0, len(large.counts), RECORDS):
        stop = min(start + RECORDS, len(large.counts))
        rows = slice(int(ends[start]), int(ends[stop]))
        if rows.start < rows.stop:
            here = cKDTree(_projected(large.codes[rows], axes))
            near = here.sparse_distance_matrix(tree, RADIUS, output_type="ndarray")
            i, j = near["i"] + rows.start, near["j"]
            if within:
                once = of_large[i] < of_small[j]
                i, j = i[once], j[once]
            likeness = _likeness(large.codes, small.codes, i, j)
            i, j, likeness = i[likeness >= 0], j[likeness >= 0], likeness[likeness >= 0]
            lag_s = large.seconds[i].astype(np.float64) - small.seconds[j]
            yield _Matches(of_large[i], of_small[j], lag_s, likeness)
        if progress is not None:
            progress(stop, len(large.counts))


def _supported(matches: _Matches, large: FingerprintTable, small: FingerprintTable) -> _Matches:
    """Return the `LAGS` best lags of every pair of records, of those that enough of the anchors agree on.

    The best is the one with most likeness in sum: in a regular rhythm as many beats are alike one interval off, but less so.
    """
    if not len(matches.large):
        return matches
    matches = matches.take(np.lexsort((matches.lag_s, matches.small, matches.large)))
    starts = matches.groups(gap_s=JITTER_S)
    size = np.diff(np.append(starts, len(matches.large)))
    lag_s, likeness = (np.add.reduceat(x, starts) for x in (matches.lag_s, matches.likeness))
    lags = _Matches(matches.large[starts], matches.small[starts], lag_s / size, likeness)
    lags = lags.take(size >= SUPPORT * np.minimum(large.counts[lags.large], small.counts[lags.small]))
    lags = lags.take(np.lexsort((-lags.likeness, lags.small, lags.large)))
    starts = lags.groups(gap_s=np.inf)
    rank = np.arange(len(lags.large)) - np.repeat(starts, np.diff(np.append(starts, len(lags.large))))
    return lags.take(rank < LAGS)


def _axes(table: FingerprintTable) -> NDArray[np.float32]:
    """Return the first principal directions (32, `PLANES`) of some codes of the table."""
    some = table.codes[:: max(1, len(table.codes) // 20_000)].astype(np.float64)
    _, vectors = np.linalg.eigh(np.atleast_2d((some - some.mean(axis=0)).T @ (some - some.mean(axis=0))))
    return np.asarray(vectors[:, -PLANES:] / SCALE, dtype=np.float32)


def _projected(codes: NDArray[np.int8], axes: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(codes.astype(np.float32) @ axes, dtype=np.float32)


def _likeness(large: NDArray[np.int8], small: NDArray[np.int8], i: Longs, j: Longs) -> Floats:
    """Return 1 for pairs of equal codes, 0 for those `RADIUS` apart in all dimensions, less for the others, (P,)."""
    apart = np.empty(len(i))
    for start in range(0, len(i), BLOCK):
        rows = slice(start, start + BLOCK)
        difference = large[i[rows]].astype(np.int16) - small[j[rows]]
        apart[rows] = np.einsum("pd,pd->p", difference, difference, dtype=np.int64)
    return np.asarray(1 - apart / (RADIUS * SCALE) ** 2)
