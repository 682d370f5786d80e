"""MERL's running accuracies: how often a record's own partner is nearest, as its authors log them.

Paper: Zero-Shot ECG Classification with Multimodal Learning and Test-time Clinical Knowledge Enhancement (MERL),
    Liu et al. 2024, https://arxiv.org/abs/2403.06659.
Shapes: B pairs, D channels.
"""

from __future__ import annotations

from torch import Tensor, arange
from torch.nn import functional as F


def pair_accuracies(one: Tensor, two: Tensor, *, nearest: tuple[int, ...] = (1, 5)) -> tuple[float, ...]:
    """Return for each k of `nearest` the percentage of rows (B, D) whose partner is among the k nearest by cosine.

    The mean of both directions; of fewer than k rows all are near.
    """
    similarity = F.normalize(one, dim=-1) @ F.normalize(two, dim=-1).T  # (B, B)
    truth = arange(len(similarity), device=similarity.device)[:, None]
    ranked = [s.argsort(dim=1, descending=True) == truth for s in (similarity, similarity.T)]
    return tuple(50.0 * sum(float(r[:, :k].any(dim=1).double().mean()) for r in ranked) for k in nearest)
