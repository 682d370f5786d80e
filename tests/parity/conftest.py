"""What tests of losses are given: every folder that holds losses, with every batch size in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fill import rng
from loss_folders import LOSSES, Normal, batches, salt_of, stored
from torch import Tensor


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "batch" in metafunc.fixturenames:
        cases = [(folder, batch) for folder in LOSSES for batch in batches(folder)]
        ids = [f"{folder.name}-{batch}" for folder, batch in cases]
        metafunc.parametrize(("losses", "batch"), cases, ids=ids, scope="module")
    elif "losses" in metafunc.fixturenames:
        metafunc.parametrize("losses", LOSSES, ids=[folder.name for folder in LOSSES], scope="module")


@pytest.fixture(scope="module")
def salt(losses: Path) -> str:
    return salt_of(losses)


@pytest.fixture(scope="module")
def want(losses: Path) -> dict[str, np.ndarray]:
    return stored(losses / "losses.npz")


@pytest.fixture(scope="module")
def normal(salt: str) -> Normal:
    def draw(name: str, *shape: int) -> Tensor:
        return torch.from_numpy(rng(salt, name).standard_normal(size=shape))

    return draw
