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
from melp_bench.leakage.table import Table
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


@dataclass(frozen=True)
class Candidates:
    """Pairs of records by position, (P,) each, and how many seconds into the first the second would begin."""

    first: Longs
    second: Longs
    lag_s: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.first)


def candidates(first: Table, second: Table, *, within: bool = False, progress: Progress | None = None) -> Candidates:
    """Return the pairs of records of `first` and `second` that share a stretch by their codes, with up to three lags each.

    With `within`, both are one table, and every pair is found once and none with itself.
    """
    found: list[tuple[Longs, Longs, NDArray[np.float64]]] = []
    swap = len(first.codes) < len(second.codes)
    large, small = (second, first) if swap else (first, second)
    for a, b, lag in _matches(large, small, within, progress):
        a, b, lag, size = _clustered(a, b, lag)
        enough = size >= SUPPORT * np.minimum(large.counts[a], small.counts[b])
        a, b, lag = _foremost(a[enough], b[enough], lag[enough], size[enough])
        found.append((b, a, -lag) if swap else (a, b, lag))
    empty = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return Candidates(*(np.concatenate(parts) for parts in zip(empty, *found, strict=True)))


def _matches(
    large: Table, small: Table, within: bool, progress: Progress | None
) -> Iterator[tuple[Longs, Longs, NDArray[np.float64]]]:
    """Yield the records and the lag of every pair of anchors whose codes are near, some records of `large` at a time."""
    if not len(small.codes):
        return
    axes = _axes(small)
    tree = cKDTree(_projected(small.codes, axes))
    of_large, of_small = large.records, small.records
    ends = np.concatenate([[0], np.cumsum(large.counts)])
    for start in range(0, len(large.counts), RECORDS):
        stop = min(start + RECORDS, len(large.counts))
        rows = slice(int(ends[start]), int(ends[stop]))
        here = cKDTree(_projected(large.codes[rows], axes))
        near = (
            here.sparse_distance_matrix(tree, RADIUS, output_type="ndarray")
            if here.n
            else np.zeros(0, [("i", int), ("j", int)])
        )
        i, j = near["i"] + rows.start, near["j"]
        if within:
            once = of_large[i] < of_small[j]
            i, j = i[once], j[once]
        close = _near(large.codes, small.codes, i, j)
        i, j = i[close], j[close]
        lag = large.seconds[i].astype(np.float64) - small.seconds[j]
        yield of_large[i].astype(np.int64), of_small[j].astype(np.int64), lag
        if progress is not None:
            progress(stop, len(large.counts))


def _clustered(a: Longs, b: Longs, lag: NDArray[np.float64]) -> tuple[Longs, Longs, NDArray[np.float64], Longs]:
    """Return the matches of one pair of records at one lag (to `JITTER_S`) as one, with the mean lag and their number."""
    order = np.lexsort((lag, b, a))
    a, b, lag = a[order], b[order], lag[order]
    begins = np.ones(len(a), dtype=np.bool_)
    begins[1:] = (np.diff(a) != 0) | (np.diff(b) != 0) | (np.diff(lag) > JITTER_S)
    (starts,) = np.nonzero(begins)
    size = np.diff(np.append(starts, len(a)))
    return a[starts], b[starts], np.add.reduceat(lag, starts) / size if len(starts) else lag, size


def _foremost(a: Longs, b: Longs, lag: NDArray[np.float64], size: Longs) -> tuple[Longs, Longs, NDArray[np.float64]]:
    """Return the `LAGS` best supported lags of every pair of records."""
    order = np.lexsort((-size, b, a))
    a, b, lag = a[order], b[order], lag[order]
    begins = np.ones(len(a), dtype=np.bool_)
    begins[1:] = (np.diff(a) != 0) | (np.diff(b) != 0)
    (starts,) = np.nonzero(begins)
    rank = np.arange(len(a)) - np.repeat(starts, np.diff(np.append(starts, len(a))))
    kept = rank < LAGS
    return a[kept], b[kept], lag[kept]


def _axes(table: Table) -> NDArray[np.float32]:
    """Return the first principal directions (32, `PLANES`) of some codes of the table."""
    some = table.codes[:: max(1, len(table.codes) // 20_000)].astype(np.float64)
    _, vectors = np.linalg.eigh(np.atleast_2d((some - some.mean(axis=0)).T @ (some - some.mean(axis=0))))
    return np.asarray(vectors[:, -PLANES:] / SCALE, dtype=np.float32)


def _projected(codes: NDArray[np.int8], axes: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(codes.astype(np.float32) @ axes, dtype=np.float32)


def _near(large: NDArray[np.int8], small: NDArray[np.int8], i: Longs, j: Longs) -> NDArray[np.bool_]:
    """Return which pairs of codes are within the radius in all dimensions, (P,)."""
    near = np.empty(len(i), dtype=np.bool_)
    for start in range(0, len(i), BLOCK):
        rows = slice(start, start + BLOCK)
        apart = large[i[rows]].astype(np.int16) - small[j[rows]]
        near[rows] = np.einsum("pd,pd->p", apart, apart, dtype=np.int64) <= (RADIUS * SCALE) ** 2
    return near
