"""The order of records: a function of (seed, step) alone, so that a resumed run sees what an undisturbed one sees.

A store is read in windows of several shards: an epoch permutes the shards, cuts their sequence into windows of about `WINDOW`
records, and permutes the records of each. A step so touches one window's shards, or two at a border, and needs memory for no
more than a window. What fits in one window is permuted as a whole, its shards disregarded.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

WINDOW = 16_384
"""Records shuffled together, at least; 2 GB of ten seconds of twelve leads at 500 Hz."""

Integers = NDArray[np.int64]


def shard_bounds(shards: Integers) -> Integers:
    """Return where in `shards` (N,) each run of equal numbers begins, and the end: (S + 1,)."""
    return np.concatenate([[0], np.flatnonzero(np.diff(shards)) + 1, [len(shards)]])


def batch_positions(
    positions: Integers,
    *,
    step: int,
    batch_size: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    bounds: Integers | None = None,
) -> Integers:
    """Return the positions that `rank` reads at global `step`; `batch_size` is of one rank.

    `bounds` says where in `positions` each shard begins, and the end; without it all are one shard. Each epoch's order is
    drawn from (seed, epoch); the last batch that would not be whole is left out, other records every epoch.
    The ranks' parts of a step are disjoint, and together they are what one rank with the whole batch would read.
    """
    whole = batch_size * world_size
    steps_per_epoch = max(len(positions) // whole, 1)
    epoch, within = divmod(step, steps_per_epoch)
    turns = np.arange(within * whole, min((within + 1) * whole, len(positions)))[rank::world_size]
    return positions[_places(turns, np.array([0, len(positions)]) if bounds is None else bounds, seed, epoch)]


def _places(turns: Integers, bounds: Integers, seed: int, epoch: int) -> Integers:
    """Return whose turn it is, as places among the records, at the ascending `turns` of an epoch."""
    sizes, count = np.diff(bounds), len(bounds) - 1
    windows = min(max(int(bounds[-1]) // WINDOW, 1), count)
    shards = np.arange(count) if windows == 1 else _permutation(seed, epoch, windows, count)
    begins = np.concatenate([[0], np.cumsum(sizes[shards])])  # of each shard, in this epoch's sequence of shards
    cuts = begins[np.arange(windows + 1) * count // windows]  # of each window
    window = np.searchsorted(cuts, turns, side="right") - 1
    drawn = np.empty_like(turns)
    for number in np.unique(window).tolist():
        mine, first = window == number, int(cuts[number])
        drawn[mine] = first + _permutation(seed, epoch, number, int(cuts[number + 1]) - first)[turns[mine] - first]
    shard = np.searchsorted(begins, drawn, side="right") - 1
    found: Integers = bounds[shards[shard]] + drawn - begins[shard]
    return found


@lru_cache(maxsize=3)
def _permutation(seed: int, epoch: int, number: int, size: int) -> Integers:
    """Return the order of a window's records, or, numbered after the last window, of the epoch's shards.

    Kept for the next step, which mostly reads from the same window or two, in the same epoch.
    """
    return np.random.default_rng([seed, epoch, number]).permutation(size)
