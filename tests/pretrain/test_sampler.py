"""The order of records."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from melp_bench.pretrain import sampler
from melp_bench.pretrain.sampler import WINDOW, batch_positions, shard_bounds

sizes = st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 9), st.integers(0, 5))
seeds = st.integers(0, 2**32)
Layout = tuple[NDArray[np.int64], NDArray[np.int64], int]
"""Positions, bounds of their shards, records of a window."""


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Draw shards of 1 to 9 training records, out of which others were left, and a window of some of them."""
    shards = np.repeat(np.arange(len(held := draw(st.lists(st.integers(1, 9), min_size=1, max_size=20)))), held)
    positions = np.cumsum(draw(st.lists(st.integers(1, 3), min_size=len(shards), max_size=len(shards))))
    return positions, shard_bounds(shards), draw(st.integers(1, 40))


def epoch_of(layout: Layout, *, batch: int, seed: int, epoch: int = 0, ranks: int = 1) -> list[NDArray[np.int64]]:
    """Return the whole batches of an epoch, each put together from its ranks' parts as `gather` does."""
    positions, bounds, window = layout
    steps, found = max(len(positions) // (batch * ranks), 1), []
    with patch.object(sampler, "WINDOW", window):
        for step in range(epoch * steps, (epoch + 1) * steps):
            parts = [
                batch_positions(positions, step=step, batch_size=batch, seed=seed, rank=r, world_size=ranks, bounds=bounds)
                for r in range(ranks)
            ]
            found.append(np.stack(parts, axis=1).reshape(-1))
    return found


def big_store(shards: int = 96, records: int = 512) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return positions and bounds of a store of three windows."""
    numbers = np.repeat(np.arange(shards), records)
    return np.arange(len(numbers)), shard_bounds(numbers)


@settings(deadline=None)
@given(layouts(), seeds, st.integers(0, 1000))
def test_a_batch_is_a_function_of_seed_and_step(layout: Layout, seed: int, step: int) -> None:
    positions, bounds, window = layout
    with patch.object(sampler, "WINDOW", window):
        first = batch_positions(positions, step=step, batch_size=1, seed=seed, bounds=bounds)
        sampler._permutation.cache_clear()
        assert np.array_equal(first, batch_positions(positions, step=step, batch_size=1, seed=seed, bounds=bounds))


@settings(deadline=None)
@given(sizes, seeds, st.integers(0, 3))
def test_what_fits_a_window_is_one_permutation_whatever_its_shards(
    size: tuple[int, int, int, int], seed: int, epoch: int
) -> None:
    batch, ranks, steps, rest = size
    positions = 2 * np.arange(batch * ranks * steps + rest) + 5
    bounds = shard_bounds(np.arange(len(positions)) // 3)
    per_epoch = len(positions) // (batch * ranks)
    wanted = positions[np.random.default_rng([seed, epoch]).permutation(len(positions))]
    for within in range(per_epoch):
        got = batch_positions(positions, step=epoch * per_epoch + within, batch_size=batch * ranks, seed=seed, bounds=bounds)
        assert np.array_equal(got, wanted[within * batch * ranks : (within + 1) * batch * ranks])


@settings(deadline=None)
@given(layouts(), seeds, st.integers(0, 2), st.data())
def test_an_epoch_reads_every_record_once_but_for_the_batch_that_is_not_whole(
    layout: Layout, seed: int, epoch: int, data: st.DataObject
) -> None:
    positions = layout[0]
    batch = data.draw(st.integers(1, len(positions)))
    read = np.concatenate(epoch_of(layout, batch=batch, seed=seed, epoch=epoch))
    assert len(set(read.tolist())) == len(read) == len(positions) // batch * batch
    assert set(read.tolist()) <= set(positions.tolist())
    if batch == 1:
        assert set(read.tolist()) == set(positions.tolist())


@settings(deadline=None)
@given(layouts(), seeds, st.data())
def test_any_number_of_ranks_reads_the_same_batches_in_disjoint_parts(layout: Layout, seed: int, data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from([n for n in (1, 2, 4, 6, 12) if n <= len(layout[0])]))
    alone = epoch_of(layout, batch=whole, seed=seed)
    for ranks in (n for n in range(2, whole + 1) if whole % n == 0):
        together = epoch_of(layout, batch=whole // ranks, seed=seed, ranks=ranks)
        assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
        assert all(len(set(batch.tolist())) == whole for batch in together)


@settings(deadline=None)
@given(layouts(), seeds, st.data())
def test_a_run_resumed_in_the_middle_of_an_epoch_reads_what_was_left(layout: Layout, seed: int, data: st.DataObject) -> None:
    positions, bounds, window = layout
    batch = data.draw(st.integers(1, len(positions)))
    undisturbed = [b for epoch in range(2) for b in epoch_of(layout, batch=batch, seed=seed, epoch=epoch)]
    begin = data.draw(st.integers(0, len(undisturbed) - 1))
    sampler._permutation.cache_clear()
    with patch.object(sampler, "WINDOW", window):
        for step in range(begin, len(undisturbed)):
            resumed = batch_positions(positions, step=step, batch_size=batch, seed=seed, bounds=bounds)
            assert np.array_equal(resumed, undisturbed[step])


def test_epochs_and_seeds_differ() -> None:
    positions = np.arange(64)
    orders = [batch_positions(positions, step=s, batch_size=64, seed=seed).tolist() for s in range(3) for seed in range(3)]
    assert len({tuple(order) for order in orders}) == 9


def test_bounds_are_where_the_shard_changes() -> None:
    assert shard_bounds(np.array([0, 0, 3, 4, 4, 4])).tolist() == [0, 2, 3, 6]
    assert shard_bounds(np.array([7])).tolist() == [0, 1]


def test_batches_between_borders_of_windows_touch_the_shards_of_one_window() -> None:
    positions, bounds = big_store()
    batches = epoch_of((positions, bounds, WINDOW), batch=512, seed=3)
    touched = [set((batch // 512).tolist()) for batch in batches]  # 32 batches of a window, 3 windows
    windows = [set().union(*touched[begin : begin + 32]) for begin in (0, 32, 64)]
    assert [len(window) for window in windows] == [32, 32, 32]
    assert set.union(*windows) == set(range(96))
    assert any(abs(a - b) > 1 for a, b in pairwise(sorted(windows[0])))  # shards that do not lie side by side


def test_a_step_needs_memory_for_a_window_and_not_for_the_store() -> None:
    positions, bounds = big_store(shards=1563)
    sampler._permutation.cache_clear()
    tracemalloc.start()
    for step in (0, 500, 3000):
        batch_positions(positions, step=step, batch_size=256, seed=1, bounds=bounds)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20 < positions.nbytes / 6


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("epoch", [0, 1])
def test_the_records_of_a_shard_are_spread_over_its_window_as_by_chance(seed: int, epoch: int) -> None:
    positions, bounds = big_store()
    read = np.concatenate(epoch_of((positions, bounds, WINDOW), batch=256, seed=seed, epoch=epoch))
    for window in read.reshape(3, WINDOW):
        shards, inverse = np.unique(window // 512, return_inverse=True)
        counts = np.zeros((64, 32))  # batches x shards
        np.add.at(counts, (np.arange(WINDOW) // 256, inverse), 1)
        assert len(shards) == 32
        assert stats.chisquare(counts.ravel()).pvalue > 1e-4  # no shard is gathered in some batches
        assert counts.max() < 30  # of 256, where 8 are expected
        together = float(np.mean(np.diff(inverse) == 0))  # neighbours of one shard: 1 in 32
        assert abs(together - 1 / 32) < 5 * np.sqrt(1 / 32 / WINDOW)


def order_of_records(seed: int, epoch: int) -> NDArray[np.int64]:
    positions, bounds = big_store()
    return np.argsort(np.concatenate(epoch_of((positions, bounds, WINDOW), batch=512, seed=seed, epoch=epoch)))


def order_of_shards(seed: int, epoch: int) -> NDArray[np.int64]:
    return order_of_records(seed, epoch).reshape(96, 512).mean(axis=1).argsort().argsort()


@pytest.mark.parametrize(("order_of", "allowed"), [(order_of_records, 0.35), (order_of_shards, 0.4)])
def test_one_epochs_order_says_nothing_of_the_next_nor_of_the_stores_own(
    order_of: Callable[[int, int], NDArray[np.int64]], allowed: float
) -> None:
    """Windows are of whole shards, so that 96 of them are what is drawn: a correlation of 0.1 is chance's own."""
    drawn = [order_of(seed, epoch) for seed in range(2) for epoch in range(3)]
    orders = [np.arange(len(drawn[0])), *drawn]
    for i, one in enumerate(orders):
        for other in orders[:i]:
            assert abs(stats.spearmanr(one, other).statistic) < allowed


def step_costs(records: int) -> int:
    """Return the bytes that a step allocates at most, in a store of so many records, once its epoch and window are known."""
    positions, bounds = big_store(shards=-(-records // 512))
    batch_positions(positions, step=3, batch_size=256, seed=1, bounds=bounds)
    tracemalloc.start()
    for step in range(4, 12):
        batch_positions(positions, step=step, batch_size=256, seed=1, bounds=bounds)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_what_a_step_allocates_grows_with_the_number_of_shards_at_most() -> None:
    small, large = step_costs(25_600), step_costs(102_400)  # a hundredth of ten million records
    assert large - small < 8 * 8 * (200 - 50), "some eight numbers of eight bytes per shard, and nothing per record"
    assert large < 64 * 1024
