"""VICReg: two views of a record are near, every channel varies over the batch, and no two channels vary together.

Paper: VICReg, Variance-Invariance-Covariance Regularization, Bardes et al. 2022, https://arxiv.org/abs/2105.04906. Written from
the paper; the invariance term is a mean over channels, as in its pseudo-code, for which its weights were found. Differs in its
augmentations and in a smaller expander by default (published: three layers of 8192).
Shapes: B records, P embedding channels, D projected channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

import melp_bench as mb
from melp_plugins.info_nce import at_least_float32
from melp_plugins.objectives.self_distillation import check_widths, perceptron
from melp_plugins.views.augmentation import AUGMENTATION

GAMMA, EPSILON = 1.0, 1e-4
"""The standard deviation that a channel is to have at least, and what stands beside its variance under the root."""


def covariance(z: Tensor) -> Tensor:
    """Return the covariance (D, D) of channels over the batch of `z` (B, D); of one record, zero."""
    centred = z - z.mean(dim=0)
    return centred.T @ centred / max(len(z) - 1, 1)


def variance_loss(covariance: Tensor) -> Tensor:
    """Return how far the channels' standard deviations fall short of `GAMMA`, their mean."""
    return F.relu(GAMMA - (covariance.diagonal() + EPSILON).sqrt()).mean()


def covariance_loss(covariance: Tensor) -> Tensor:
    """Return the sum of squares off the diagonal, per channel."""
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / len(covariance)


def vicreg_loss(one: Tensor, two: Tensor, *, invariance: float, variance: float, covary: float) -> Tensor:
    """Return the three terms of two views (B, D), weighed: lambda, mu and nu of the paper."""
    first, second = covariance(one), covariance(two)
    near = F.mse_loss(one, two)
    vary = variance_loss(first) + variance_loss(second)
    return invariance * near + variance * vary + covary * (covariance_loss(first) + covariance_loss(second))


class VICReg(mb.Objective):
    """Invariance, variance and covariance of projections of two views' embeddings."""

    scale: ClassVar[str] = "signal"
    needs_global_batch: ClassVar[bool] = True

    def __init__(self, sizes: mb.Sizes, *, hidden: int, projected: int, weights: tuple[float, float, float]) -> None:
        super().__init__()
        self.weights = weights
        self.project = perceptron(sizes.embedding, hidden, hidden, projected)

    def views(self) -> Mapping[str, Sequence[mb.View]]:
        """Return two augmentations of a record."""
        return {"view1": AUGMENTATION, "view2": AUGMENTATION}

    def forward(self, view1: mb.Features, view2: mb.Features) -> Tensor:
        """Return the loss of two views of the same records."""
        one, two = self.project(view1.embedding), self.project(view2.embedding)
        near, vary, covary = self.weights
        with torch.autocast(one.device.type, enabled=False):
            one, two = at_least_float32(one), at_least_float32(two)
            return vicreg_loss(one, two, invariance=near, variance=vary, covary=covary)


def vicreg(
    sizes: mb.Sizes,
    *,
    hidden: int = 512,
    projected: int = 256,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
) -> VICReg:
    """Return VICReg; `hidden` and `projected` are the widths of the expander, the others the paper's lambda, mu and nu.

    Raises:
        UserError: a width is not positive, or a weight is negative.
    """
    check_widths("vicreg", hidden=hidden, projected=projected)
    weights = (invariance, variance, covariance)
    if min(weights) < 0:
        raise mb.UserError(f"'vicreg' with weights {weights}; wanted 0 or more")
    return VICReg(sizes, hidden=hidden, projected=projected, weights=weights)


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer VICReg."""
    return [
        mb.Entry(
            name="vicreg",
            build=vicreg,
            summary="two views are near while channels vary, each by itself; without negatives",
            source="https://arxiv.org/abs/2105.04906",
            license="MIT",
        )
    ]
