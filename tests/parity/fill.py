"""The random numbers of the parity set: a generator per (salt, name)."""

from __future__ import annotations

import hashlib

import numpy as np


def rng(salt: str, name: str) -> np.random.Generator:
    """Return the generator that the parity set seeds with `salt:name`."""
    digest = hashlib.sha256(f"{salt}:{name}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "little")))
