"""Barlow Twins: what two views of a record have in common is to be one number per channel, and no two channels the same.

Paper: Barlow Twins, Self-Supervised Learning via Redundancy Reduction, Zbontar et al. 2021, https://arxiv.org/abs/2103.03230.
Written from the paper; differs in its augmentations, which are a recording's, and in a smaller projector by default
(published: three layers of 8192). The correlation is that of the records of all ranks.
Shapes: B records, P embedding channels, D projected channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

import melp_bench as mb
from melp_plugins.info_nce import at_least_float32
from melp_plugins.objectives.self_distillation import check_widths, perceptron
from melp_plugins.views.augmentation import AUGMENTATION

EPSILON = 1e-5  # beside a channel's variance


def cross_correlation(one: Tensor, two: Tensor) -> Tensor:
    """Return how each channel of one view goes with each channel of the other over the batch, (D, D), of (B, D) each."""
    a, b = ((z - z.mean(dim=0)) * (z.var(dim=0, unbiased=False) + EPSILON).rsqrt() for z in (one, two))
    return a.T @ b / len(a)


def barlow_twins_loss(one: Tensor, two: Tensor, *, redundancy: float) -> Tensor:
    """Return the squared distance of the cross-correlation of (B, D) from the identity; off-diagonals weigh `redundancy`."""
    correlation = cross_correlation(one, two)
    diagonal = correlation.diagonal()
    invariant = (1 - diagonal).square().sum()
    return invariant + redundancy * (correlation.square().sum() - diagonal.square().sum())


class BarlowTwins(mb.Objective):
    """Invariance and redundancy reduction on projections of two views' embeddings."""

    scale: ClassVar[str] = "signal"
    needs_global_batch: ClassVar[bool] = True

    def __init__(self, sizes: mb.Sizes, *, hidden: int, projected: int, redundancy: float) -> None:
        super().__init__()
        self.redundancy = redundancy
        self.project = perceptron(sizes.embedding, hidden, hidden, projected)

    def views(self) -> Mapping[str, Sequence[mb.View]]:
        """Return two augmentations of a record."""
        return {"view1": AUGMENTATION, "view2": AUGMENTATION}

    def forward(self, view1: mb.Features, view2: mb.Features) -> Tensor:
        """Return the loss of two views of the same records."""
        one, two = self.project(view1.embedding), self.project(view2.embedding)
        with torch.autocast(one.device.type, enabled=False):
            return barlow_twins_loss(at_least_float32(one), at_least_float32(two), redundancy=self.redundancy)


def barlow_twins(sizes: mb.Sizes, *, hidden: int = 512, projected: int = 256, redundancy: float = 0.005) -> BarlowTwins:
    """Return Barlow Twins; `hidden` and `projected` are the widths of the projector, `redundancy` is the paper's lambda.

    Raises:
        UserError: a width is not positive, or the weight is negative.
    """
    check_widths("barlow-twins", hidden=hidden, projected=projected)
    if redundancy < 0:
        raise mb.UserError(f"option 'redundancy' of 'barlow-twins' is {redundancy}; wanted 0 or more")
    return BarlowTwins(sizes, hidden=hidden, projected=projected, redundancy=redundancy)


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer Barlow Twins."""
    return [
        mb.Entry(
            name="barlow-twins",
            build=barlow_twins,
            summary="two views' channels correlate one to one, without negatives",
            source="https://arxiv.org/abs/2103.03230",
            license="MIT",
        )
    ]
