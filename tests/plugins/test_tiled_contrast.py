"""Contrasts in tiles: loss and gradients of the plain form, without its logits in memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from melp_plugins import info_nce as tiled
from melp_plugins.objectives.contrast import clip_loss
from melp_plugins.objectives.merl import cma_loss
from melp_plugins.objectives.siglip import siglip_loss
from melp_plugins.objectives.simclr import nt_xent

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def own_and_all(logits: Tensor) -> Tensor:
    """Return the cross entropy of rows in which row i belongs to column i, written out."""
    weights = logits.exp()
    return (weights.sum(dim=1).log() - logits.diagonal()).mean()


def plain_clip(x: Tensor, y: Tensor, s: Tensor) -> Tensor:
    return (own_and_all(s.exp() * x @ y.T) + own_and_all(s.exp() * y @ x.T)) / 2


def plain_cma(x: Tensor, y: Tensor, s: Tensor) -> Tensor:
    x, y = x / x.norm(dim=1, keepdim=True), y / y.norm(dim=1, keepdim=True)
    return own_and_all(x @ y.T / 0.2) + own_and_all(y @ x.T / 0.2) + 0 * s


def plain_nt_xent(x: Tensor, y: Tensor, s: Tensor) -> Tensor:
    x, y = x / x.norm(dim=1, keepdim=True), y / y.norm(dim=1, keepdim=True)
    other = 1 - torch.eye(len(x), dtype=x.dtype)
    losses = [
        ((a @ b.T / 0.2).exp().sum(dim=1) + ((a @ a.T / 0.2).exp() * other).sum(dim=1)).log() - (a * b).sum(dim=1) / 0.2
        for a, b in ((x, y), (y, x))
    ]
    return torch.cat(losses).mean() + 0 * s


def plain_siglip(x: Tensor, y: Tensor, s: Tensor) -> Tensor:
    logits, own = s.exp() * x @ y.T + s / 2, torch.eye(len(x), dtype=torch.bool)
    return torch.where(own, (1 + (-logits).exp()).log(), (1 + logits.exp()).log()).sum() / len(x)


LOSSES: dict[str, tuple[Loss, Loss]] = {
    "clip": (lambda x, y, s: clip_loss(x, y, s), plain_clip),
    "cma": (lambda x, y, s: cma_loss(x, y, temperature=0.2) + 0 * s, plain_cma),
    "nt-xent": (lambda x, y, s: nt_xent(x, y, temperature=0.2) + 0 * s, plain_nt_xent),
    "siglip": (lambda x, y, s: siglip_loss(x, y, s, s / 2), plain_siglip),
}


def made(pairs: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    g = torch.Generator().manual_seed(pairs)
    vectors = [F.normalize(torch.randn(pairs, 6, generator=g, dtype=torch.float64), dim=-1) for _ in range(2)]
    return [t.to(dtype).requires_grad_() for t in (*vectors, torch.tensor(1.1, dtype=torch.float64))]


def value_and_gradients(loss: Loss, given: list[Tensor]) -> tuple[Tensor, ...]:
    found = loss(*given)
    return (found.detach(), *torch.autograd.grad(found, given))


@pytest.fixture
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiled, "WHOLE", 3)
    monkeypatch.setattr(tiled, "TILE", 4)


@pytest.mark.usefixtures("_small_tiles")
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("pairs", [4, 9, 14])  # one tile and more, whole and with a rest of one or two
def test_tiles_say_what_the_plain_form_says_in_double_precision(name: str, pairs: int) -> None:
    ours, plain = LOSSES[name]
    torch.testing.assert_close(
        value_and_gradients(ours, made(pairs)), value_and_gradients(plain, made(pairs)), rtol=1e-12, atol=1e-13
    )


@pytest.mark.parametrize("name", LOSSES)
def test_tiles_say_in_single_precision_what_they_say_without(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = made(70, torch.float32)
    whole = value_and_gradients(LOSSES[name][0], given)
    monkeypatch.setattr(tiled, "WHOLE", 32)
    monkeypatch.setattr(tiled, "TILE", 16)
    parts = value_and_gradients(LOSSES[name][0], given)
    assert any(not torch.equal(a, b) for a, b in zip(whole, parts, strict=True))  # another order of sums: it was in tiles
    torch.testing.assert_close(parts, whole, rtol=2e-5, atol=2e-6)


@pytest.mark.usefixtures("_small_tiles")
def test_very_large_logits_stay_finite() -> None:
    x, y, s = made(9, torch.float32)
    found = value_and_gradients(lambda x, y, s: clip_loss(x, y, 5 * s), [x, y, s])
    assert all(torch.isfinite(one).all() for one in found)


MEMORY = """
import torch
from melp_bench.throughput.memory import PeakMemory
from melp_plugins.objectives.{module} import {name} as loss
torch.set_num_threads(1)
def one(pairs):
    x, y = (torch.nn.functional.normalize(torch.randn(pairs, 32), dim=-1).requires_grad_() for _ in range(2))
    torch.autograd.grad(loss(x, y, {rest}), [x, y])
one(2049)
peak = PeakMemory(torch.nn.Identity(), torch.device("cpu"))
one(8192)
print(peak.bytes())
"""


@pytest.mark.parametrize(
    ("module", "name", "rest"),
    [("contrast", "clip_loss", "torch.tensor(2.0)"), ("siglip", "siglip_loss", "torch.tensor(2.0), torch.tensor(-10.0)")],
)
def test_the_logits_of_8192_pairs_are_never_in_memory(module: str, name: str, rest: str) -> None:
    code = MEMORY.format(module=module, name=name, rest=rest)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 50e6 < 4 * 8192**2  # of which the plain form keeps several
