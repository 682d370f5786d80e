"""How many processes train together."""

from __future__ import annotations

import os


def num_ranks() -> int:
    """Return how many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))
