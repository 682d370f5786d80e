"""MoCo v3: a view's prediction finds the slowly following target's projection of the other view among those of all records.

Paper: An Empirical Study of Training Self-Supervised Vision Transformers, Chen et al. 2021, https://arxiv.org/abs/2104.02057.
Written from the paper: no queue, the other records of the batch are the negatives. Differs in its augmentations, in smaller
layers by default (published: 4096 inside, 256 at the end), and in that the batch norms see the records of all ranks.
Shapes: B records, P embedding channels, D projected channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

import melp_bench as mb
from melp_plugins.info_nce import at_least_float32
from melp_plugins.objectives.self_distillation import MomentumObjective, check_widths, perceptron


def contrast(queries: Tensor, keys: Tensor, *, temperature: float) -> Tensor:
    """Return 2 tau times the cross entropy with which each query (B, D) finds its own among the keys (B, D)."""
    logits = F.normalize(queries, dim=-1) @ F.normalize(keys, dim=-1).T / temperature  # (B, B)
    return 2 * temperature * F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


class MoCoV3(MomentumObjective):
    """The contrast of each view's prediction with the target's projections of the other, in both directions.

    Unlike what has no negatives, its loss tells a collapsed encoder; the last weights are kept as the paper keeps them.
    """

    def __init__(
        self, sizes: mb.Sizes, *, hidden: int, projected: int, layers: int, momentum: float, temperature: float
    ) -> None:
        inner = [hidden] * (layers - 1)
        super().__init__(perceptron(sizes.embedding, *inner, projected, norm_last=True), momentum=momentum)
        self.predict = perceptron(projected, hidden, projected, norm_last=True)
        self.temperature = temperature

    def forward(self, online1: Tensor, online2: Tensor, target1: Tensor, target2: Tensor) -> Tensor:
        """Return the loss of the embeddings of two views of the same records."""
        queries = [self.predict(self.project(online)) for online in (online1, online2)]
        keys = self.projected_targets(target1, target2)
        with torch.autocast(online1.device.type, enabled=False):
            one, two = (at_least_float32(query) for query in queries)
            key1, key2 = (at_least_float32(key) for key in keys)
            return contrast(one, key2, temperature=self.temperature) + contrast(two, key1, temperature=self.temperature)

    def chance(self, batch: int) -> float:
        """Return 2 tau ln(batch) for each direction."""
        return 4 * self.temperature * math.log(batch)


def moco_v3(
    sizes: mb.Sizes,
    *,
    hidden: int = 512,
    projected: int = 128,
    layers: int = 2,
    momentum: float = 0.99,
    temperature: float = 0.2,
) -> MoCoV3:
    """Return MoCo v3; `layers` are the projector's, 2 for a ResNet and 3 for a transformer as published.

    Raises:
        UserError: a width or a number of layers is not positive, the momentum not in [0, 1], or the temperature not positive.
    """
    check_widths("moco-v3", momentum, hidden=hidden, projected=projected, layers=layers)
    if not temperature > 0:
        raise mb.UserError(f"option 'temperature' of 'moco-v3' is {temperature}; wanted a positive number")
    return MoCoV3(sizes, hidden=hidden, projected=projected, layers=layers, momentum=momentum, temperature=temperature)


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer MoCo v3."""
    return [
        mb.Entry(
            name="moco-v3",
            build=moco_v3,
            summary="a view finds a slowly following target's projection of the other in the batch",
            source="https://arxiv.org/abs/2104.02057",
            license="MIT",
        )
    ]
