"""SimCLR: two augmentations of a record find each other among all others.

Paper: A Simple Framework for Contrastive Learning of Visual Representations, Chen et al. 2020, https://arxiv.org/abs/2002.05709.
Shapes: B records, P embedding channels, D projected channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb
from melp_plugins.info_nce import at_least_float32, view_contrast
from melp_plugins.views.augmentation import AUGMENTATION


def nt_xent(one: Tensor, two: Tensor, *, temperature: float) -> Tensor:
    """Return the normalised temperature-scaled cross entropy of two views (B, D): mean over all 2B anchors."""
    return view_contrast(F.normalize(torch.cat([one, two]), dim=-1), temperature=temperature)


class SimCLR(mb.Objective):
    """NT-Xent between projections of two views' embeddings."""

    scale: ClassVar[str] = "signal"
    needs_global_batch: ClassVar[bool] = True

    def __init__(self, sizes: mb.Sizes, *, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        width = sizes.embedding
        self.project = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, sizes.shared))

    def views(self) -> Mapping[str, Sequence[mb.View]]:
        """Return two augmentations of a record."""
        return {"view1": AUGMENTATION, "view2": AUGMENTATION}

    def forward(self, view1: mb.Features, view2: mb.Features) -> Tensor:
        """Return the loss of two views of the same records."""
        one, two = self.project(view1.embedding), self.project(view2.embedding)
        with torch.autocast(one.device.type, enabled=False):
            return nt_xent(at_least_float32(one), at_least_float32(two), temperature=self.temperature)

    def chance(self, batch: int) -> float:
        """Return the logarithm of the number of candidates: all other views."""
        return math.log(2 * batch - 1)


def simclr(sizes: mb.Sizes, *, temperature: float = 0.1) -> SimCLR:
    """Return the SimCLR objective.

    Raises:
        UserError: the temperature is not positive.
    """
    if not temperature > 0:
        raise mb.UserError(f"temperature is {temperature}; wanted a positive number")
    return SimCLR(sizes, temperature=temperature)


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer SimCLR."""
    return [
        mb.Entry(
            name="simclr",
            build=simclr,
            summary="NT-Xent between two augmentations of a record",
            source="https://arxiv.org/abs/2002.05709",
            license="MIT",
        )
    ]
