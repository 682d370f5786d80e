"""BYOL: from one view of a record, predict what a slowly following target makes of another; no negatives.

Paper: Bootstrap Your Own Latent, Grill et al. 2020, https://arxiv.org/abs/2006.07733. Written from the paper; differs in its
augmentations, which are a recording's, and in smaller layers. Its batch norms see the records of all ranks: features are made
rank by rank, projections on the global batch.
Shapes: B records, P embedding channels, D projected channels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

import melp_bench as mb
from melp_plugins.info_nce import at_least_float32
from melp_plugins.objectives.self_distillation import MomentumObjective, check_widths, perceptron


def regression_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared distance of normalised vectors (B, D): 2 - 2 cos, from 0 to 4."""
    return 2 - 2 * F.cosine_similarity(predicted, target, dim=-1).mean()


class BYOL(MomentumObjective):
    """The distance of each view's prediction from the target's projection of the other view, in both directions."""

    def __init__(self, sizes: mb.Sizes, *, hidden: int, projected: int, momentum: float) -> None:
        super().__init__(perceptron(sizes.embedding, hidden, projected), momentum=momentum)
        self.predict = perceptron(projected, hidden, projected)

    def forward(self, online1: Tensor, online2: Tensor, target1: Tensor, target2: Tensor) -> Tensor:
        """Return the loss of the embeddings of two views of the same records."""
        predicted1, predicted2 = (self.predict(self.project(online)) for online in (online1, online2))
        wanted1, wanted2 = self.projected_targets(target1, target2)
        with torch.autocast(predicted1.device.type, enabled=False):
            one = regression_loss(at_least_float32(predicted1), at_least_float32(wanted2))
            two = regression_loss(at_least_float32(predicted2), at_least_float32(wanted1))
            return one + two


def byol(sizes: mb.Sizes, *, hidden: int = 512, projected: int = 128, momentum: float = 0.99) -> BYOL:
    """Return BYOL; `hidden` and `projected` are the widths of projector and predictor, `momentum` is the target's at first.

    Raises:
        UserError: a width is not positive, or the momentum is not in [0, 1].
    """
    check_widths("byol", momentum, hidden=hidden, projected=projected)
    return BYOL(sizes, hidden=hidden, projected=projected, momentum=momentum)


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer BYOL."""
    return [
        mb.Entry(
            name="byol",
            build=byol,
            summary="predict a slowly following target's view of the record, without negatives",
            source="https://arxiv.org/abs/2006.07733",
            license="MIT",
        )
    ]
