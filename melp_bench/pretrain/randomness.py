"""All that is random in pretraining is a function of the protocol's seed, the stage, the step and the rank."""

from __future__ import annotations

import numpy as np
import torch


def seed_step(generator: torch.Generator, seed: int, step: int, rank: int, *part: int) -> None:
    """Make all that is random in this step a function of (seed, step, rank), and of the `part` of its batch, if any."""
    drawn = _drawn(seed, step, rank, *part)
    torch.manual_seed(drawn)
    generator.manual_seed(drawn)


def stage_seed(seed: int, stage: int) -> int:
    """Return the seed of a stage by its number: the protocol's own in the first, others in those after it."""
    return seed if stage == 0 else _drawn(seed, stage) % 2**31


def _drawn(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
