"""The validation loss of a stage: a fixed sample of the held-out records, with the same views every time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from melp_bench.errors import UserError
from melp_bench.pretrain.distributed import gather_over, total_loss
from melp_bench.pretrain.gradient_cache import Parts, cached_loss
from melp_bench.pretrain.prefetch import prefetched
from melp_bench.pretrain.randomness import seed_step
from melp_bench.pretrain.step import Step

if TYPE_CHECKING:
    from lightning_fabric import Fabric

VALIDATION_RECORDS = 2048
"""A validation reads at most so many records, always the same ones."""


class Source(Protocol):
    """What is learned from: positions of the two parts, and batches of them as the step module reads them.

    `bounds` (S + 1,) says where in `train` what lies together (a shard) begins, and the end.
    """

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    bounds: NDArray[np.int64]

    def batch(self, positions: NDArray[np.int64], device: torch.device) -> Any:
        """Return what the step module is given for `positions`; read in a thread, and with nothing drawn at random."""


@dataclass(frozen=True)
class Budget:
    """What every method gets alike; `batch_size` is of all ranks together."""

    steps: int
    batch_size: int
    seed: int
    validate_every: int


def validation_sample(positions: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return the positions that every validation reads: all, or `VALIDATION_RECORDS` of them drawn by the seed, ascending."""
    if len(positions) <= VALIDATION_RECORDS:
        return positions
    return np.sort(np.random.default_rng([seed, len(positions)]).choice(positions, VALIDATION_RECORDS, replace=False))


def validation_batch(source: Source, budget: Budget, ranks: int) -> int:
    """Return how many records a batch of a validation has, over all ranks; 0 where there are fewer records than ranks."""
    records = len(validation_sample(source.validation, budget.seed))
    return min(budget.batch_size, records) // ranks * ranks


@torch.no_grad()
def validation_loss(
    module: Step, weights: Mapping[str, float], source: Source, *, budget: Budget, fabric: Fabric, micro_batch: int = 0
) -> dict[str, float]:
    """Return each term's mean over whole batches of the sample, in eval mode, with the same views every time.

    With `micro_batch`, a rank embeds so many records at once, and their loss is still the whole batch's.

    Raises:
        UserError: there are fewer validation records than ranks.
    """
    positions, ranks = validation_sample(source.validation, budget.seed), fabric.world_size
    whole = validation_batch(source, budget, ranks)
    if not whole:
        raise UserError(f"{len(positions)} validation records are fewer than {ranks} ranks; use fewer ranks")
    generator, gather = torch.Generator(device=fabric.device), gather_over(fabric)
    batches = len(positions) // whole
    sums = dict.fromkeys(weights, 0.0)
    module.eval()

    def mine(index: int) -> NDArray[np.int64]:
        return positions[index * whole : (index + 1) * whole][fabric.global_rank :: ranks]

    read, ahead = partial(source.batch, device=fabric.device), fabric.device.type != "cpu"
    for index, batch, _ in prefetched(read, mine, range(batches), ahead=ahead):
        seed = partial(seed_step, generator, budget.seed, index, fabric.global_rank)
        seed()
        if micro_batch and len(batch) > micro_batch:
            found = cached_loss(module, Parts(batch, micro_batch, seed, generator, gather, 0.0), weights, fabric)[1]
        else:
            with fabric.autocast():
                terms = module(batch, generator, gather)
            found = total_loss(terms, weights, fabric)[1]
        for name, value in found.items():
            sums[name] += value / batches
    module.train()
    return sums
