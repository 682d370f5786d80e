"""The folders of the parity sets that hold losses, found by what is in them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from parity_folders import folders_with
from torch import Tensor

Normal = Callable[..., Tensor]
LOSSES = folders_with("losses.npz")


def salt_of(folder: Path) -> str:
    """Return the salt that the folder's README states."""
    found = re.search(r"^salt:\s*`([^`]+)`", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None, f"the README of {folder.name!r} states no salt"
    return found.group(1)


def stored(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file by name."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def batches(folder: Path) -> list[int]:
    """Return the batch sizes that the folder's losses were computed for."""
    return sorted({int(size) for name in stored(folder / "losses.npz") for size in re.findall(r"_B(\d+)_", name)})
