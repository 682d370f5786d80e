"""The batched beat objective against loops over reports and over pairs, forward and backward, on one thread.

It is to be at least 12 times as fast as the loop over reports, and 25 times as the loop over pairs, as published.

Run with `pytest --benchmark-enable tests/benchmarks`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from melp_plugins.objectives.beat import beat_alignment_loss

B, Q, S, D = 128, 13, 8, 256


@pytest.fixture(autouse=True)
def _only_when_asked(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--benchmark-enable"):
        pytest.skip("a benchmark; run with --benchmark-enable")


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(8)
    mask = torch.arange(S) < torch.randint(1, S + 1, (B, 1), generator=g)
    beats, sentences = torch.randn(B, Q, D, generator=g), torch.randn(B, S, D, generator=g)
    return 0.3 * beats.requires_grad_(), 0.3 * sentences.requires_grad_(), mask


def looped(beats: Tensor, sentences: Tensor, mask: Tensor) -> Tensor:
    """Return the loss with a loop over reports, each against all records at once."""
    rows = []
    for padded, keep in zip(sentences, mask, strict=True):
        words = padded[keep]
        attention = (4.0 * (beats @ words.T).softmax(dim=2).transpose(1, 2)).softmax(dim=2)  # (B, sentences, Q)
        cosine = F.cosine_similarity(words.expand(B, -1, -1), attention @ beats, dim=2)
        rows.append((5.0 * cosine).logsumexp(dim=1))
    logits, target = 10.0 * torch.stack(rows), torch.arange(B)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def pair_by_pair(beats: Tensor, sentences: Tensor, mask: Tensor) -> Tensor:
    """Return the loss with a loop over reports and over records."""
    rows = []
    for padded, keep in zip(sentences, mask, strict=True):
        words, row = padded[keep], []
        for record in beats:
            attention = (4.0 * (words @ record.T).softmax(dim=0)).softmax(dim=1)  # (sentences, Q)
            row.append((5.0 * F.cosine_similarity(words, attention @ record, dim=1)).logsumexp(dim=0))
        rows.append(torch.stack(row))
    logits, target = 10.0 * torch.stack(rows), torch.arange(B)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def batched(beats: Tensor, sentences: Tensor, mask: Tensor) -> Tensor:
    return beat_alignment_loss(beats, sentences, mask)[0]


@pytest.mark.parametrize("loss", [batched, looped, pair_by_pair], ids=["batched", "over reports", "over pairs"])
def test_beat_alignment(loss: Callable[[Tensor, Tensor, Tensor], Tensor], benchmark: Callable[..., object]) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    made = inputs()
    torch.testing.assert_close(loss(*made), looped(*made), rtol=1e-4, atol=1e-4)
    try:
        benchmark(lambda: torch.autograd.grad(loss(*made), made[:2]))
    finally:
        torch.set_num_threads(threads)
