"""How many processes train together: those that torchrun started, or SLURM's srun."""

from __future__ import annotations

import os


def num_ranks() -> int:
    """Return how many processes train together, on all nodes; 1 where nothing started several."""
    return int(os.environ.get("WORLD_SIZE") or (os.environ.get("SLURM_NTASKS") if _by_srun() else None) or "1")


def num_ranks_here() -> int:
    """Return how many of them are on this node."""
    here = os.environ.get("LOCAL_WORLD_SIZE") or (os.environ.get("SLURM_NTASKS_PER_NODE") if _by_srun() else None)
    return int(here or "1")


def _by_srun() -> bool:
    """Return whether srun started this process, as Lightning tells it: a shell inside a job is not meant."""
    return "SLURM_PROCID" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive")
