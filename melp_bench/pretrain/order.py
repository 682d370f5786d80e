"""The order of records: a function of (seed, step) alone, so that a resumed run sees what an undisturbed one sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def batch_positions(
    positions: NDArray[np.int64], *, step: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1
) -> NDArray[np.int64]:
    """Return the positions that `rank` reads at global `step`; `batch_size` is of one rank.

    Each epoch is a permutation of `positions` drawn from (seed, epoch); the last batch that would not be whole is left out.
    The ranks' parts of a step are disjoint, and together they are what one rank with the whole batch would read.
    """
    whole = batch_size * world_size
    steps_per_epoch = max(len(positions) // whole, 1)
    epoch, within = divmod(step, steps_per_epoch)
    order = np.random.default_rng([seed, epoch]).permutation(len(positions))
    chosen = order[within * whole : (within + 1) * whole]
    return positions[chosen[rank::world_size]]
