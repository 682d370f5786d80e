"""Contrasts of 4,096 pairs in tiles beside the same with all logits at once, forward and backward, on one thread.

Tiles are to take no longer. Run with `pytest --benchmark-enable tests/benchmarks`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from melp_plugins import info_nce
from melp_plugins.objectives.contrast import clip_loss
from melp_plugins.objectives.siglip import siglip_loss

B, D = 4096, 256


@pytest.fixture(autouse=True)
def _only_when_asked(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--benchmark-enable"):
        pytest.skip("a benchmark; run with --benchmark-enable")
    torch.set_num_threads(1)


@pytest.mark.parametrize("kind", ["tiles", "whole"])
def test_info_nce(kind: str, benchmark: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info_nce, "WHOLE", 1 if kind == "tiles" else B)
    x, y = (torch.randn(B, D).div_(D**0.5).requires_grad_() for _ in range(2))
    benchmark(lambda: torch.autograd.grad(clip_loss(x, y, torch.tensor(2.6)), [x, y]))


@pytest.mark.parametrize("kind", ["tiles", "whole"])
def test_siglip(kind: str, benchmark: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info_nce, "WHOLE", 1 if kind == "tiles" else B)
    x, y = (torch.randn(B, D).div_(D**0.5).requires_grad_() for _ in range(2))
    benchmark(lambda: torch.autograd.grad(siglip_loss(x, y, torch.tensor(2.6), torch.tensor(-10.0)), [x, y]))
