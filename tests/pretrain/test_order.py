"""The order of records."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from melp_bench.pretrain.order import batch_positions

sizes = st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 9), st.integers(0, 5))


@given(sizes, st.integers(0, 2**32), st.integers(0, 1000))
def test_a_batch_is_a_function_of_seed_and_step(size: tuple[int, int, int, int], seed: int, step: int) -> None:
    batch, _, steps, rest = size
    positions = np.arange(batch * steps + rest) * 3
    first = batch_positions(positions, step=step, batch_size=batch, seed=seed)
    assert np.array_equal(first, batch_positions(positions, step=step, batch_size=batch, seed=seed))


@given(sizes, st.integers(0, 2**32))
def test_an_epoch_is_a_permutation_without_the_batch_that_is_not_whole(size: tuple[int, int, int, int], seed: int) -> None:
    batch, _, steps, rest = size
    positions = np.arange(batch * steps + min(rest, batch - 1)) + 7
    for epoch in range(2):
        read = np.concatenate(
            [batch_positions(positions, step=epoch * steps + s, batch_size=batch, seed=seed) for s in range(steps)]
        )
        assert len(read) == batch * steps == len(set(read.tolist()))
        assert set(read.tolist()) <= set(positions.tolist())


@given(sizes, st.integers(0, 2**32), st.integers(0, 100))
def test_ranks_interleave_to_what_one_rank_would_read(size: tuple[int, int, int, int], seed: int, step: int) -> None:
    batch, ranks, steps, rest = size
    positions = np.arange(batch * ranks * steps + rest)
    parts = [batch_positions(positions, step=step, batch_size=batch, seed=seed, rank=r, world_size=ranks) for r in range(ranks)]
    whole = batch_positions(positions, step=step, batch_size=batch * ranks, seed=seed)
    assert np.array_equal(np.stack(parts, axis=1).reshape(-1), whole)
    assert len(set(np.concatenate(parts).tolist())) == batch * ranks


def test_epochs_and_seeds_differ() -> None:
    positions = np.arange(64)
    orders = [batch_positions(positions, step=s, batch_size=64, seed=seed).tolist() for s in range(3) for seed in range(3)]
    assert len({tuple(order) for order in orders}) == 9
