"""BYOL: from one view of a record, predict what a slowly following target makes of another; no negatives.

Paper: Bootstrap Your Own Latent, Grill et al. 2020, https://arxiv.org/abs/2006.07733. Written from the paper; differs in its
augmentations, which are a recording's, and in smaller layers. Its batch norms see the records of all ranks: features are made
rank by rank, projections on the global batch.
Shapes: B records, L leads, T samples, P embedding channels, D projected channels.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb
from melp_plugins.info_nce import at_least_float32
from melp_plugins.views.augmentation import AUGMENTATION


def perceptron(width: int, hidden: int, out: int) -> nn.Sequential:
    """Return the form of BYOL's projector and predictor."""
    return nn.Sequential(nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, out))


def regression_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared distance of normalised vectors (B, D): 2 - 2 cos, from 0 to 4."""
    return 2 - 2 * F.cosine_similarity(predicted, target, dim=-1).mean()


def momentum_at(progress: float, *, base: float) -> float:
    """Return how much of itself a target keeps: from `base` to 1, along a cosine over the share of the steps done."""
    return 1 - (1 - base) * (math.cos(math.pi * progress) + 1) / 2


class BYOL(mb.Objective):
    """The distance of each view's prediction from the target's projection of the other view, in both directions.

    A low loss is no sign of a good encoder, which only a collapsed one would reach at once: the last weights are kept.
    """

    scale: ClassVar[str] = "signal"
    needs_global_batch: ClassVar[bool] = True
    keep: ClassVar[Literal["lowest", "last"]] = "last"
    target_encoder: mb.ECGEncoder

    def __init__(self, sizes: mb.Sizes, *, hidden: int, projected: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.project = perceptron(sizes.embedding, hidden, projected)
        self.predict = perceptron(projected, hidden, projected)
        self.target_project = copy.deepcopy(self.project).requires_grad_(False)

    def views(self) -> Mapping[str, Sequence[mb.View]]:
        """Return two augmentations of a record."""
        return {"view1": AUGMENTATION, "view2": AUGMENTATION}

    def attach(self, model: mb.PretrainingModel) -> None:
        """Begin with a target that is the encoder."""
        self.target_encoder = copy.deepcopy(model.encoder).requires_grad_(False)
        self.followed = ((self.target_encoder, model.encoder), (self.target_project, self.project))

    def local(self, view1: mb.Features, view2: mb.Features, view1_signal: Tensor, view2_signal: Tensor) -> Mapping[str, Tensor]:
        """Return embeddings (B, P) of both views, the model's and the target's."""
        with torch.no_grad():
            target1, target2 = (self.target_encoder(signal).embedding for signal in (view1_signal, view2_signal))
        return {"online1": view1.embedding, "online2": view2.embedding, "target1": target1, "target2": target2}

    def forward(self, online1: Tensor, online2: Tensor, target1: Tensor, target2: Tensor) -> Tensor:
        """Return the loss of the embeddings of two views of the same records."""
        predicted1, predicted2 = (self.predict(self.project(online)) for online in (online1, online2))
        with torch.no_grad():
            wanted1, wanted2 = (self.target_project(target) for target in (target1, target2))
        with torch.autocast(predicted1.device.type, enabled=False):
            one = regression_loss(at_least_float32(predicted1), at_least_float32(wanted2))
            two = regression_loss(at_least_float32(predicted2), at_least_float32(wanted1))
            return one + two

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Let the target follow the encoder and its projector by an exponential moving average."""
        kept = momentum_at(progress, base=self.momentum)
        for target, online in self.followed:
            for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
                slow.lerp_(fast, 1 - kept)


def byol(sizes: mb.Sizes, *, hidden: int = 512, projected: int = 128, momentum: float = 0.99) -> BYOL:
    """Return BYOL; `hidden` and `projected` are the widths of projector and predictor, `momentum` is the target's at first.

    Raises:
        UserError: a width is not positive, or the momentum is not in [0, 1].
    """
    if min(hidden, projected) < 1 or not 0 <= momentum <= 1:
        raise mb.UserError(
            f"'byol' with hidden {hidden}, projected {projected}, momentum {momentum}; wanted widths of at least 1, and 0 to 1"
        )
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
