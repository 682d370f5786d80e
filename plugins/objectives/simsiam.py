"""SimSiam: from one view of a record, predict the projection of another, through which no gradient flows; no negatives.

Paper: Exploring Simple Siamese Representation Learning, Chen and He 2021, https://arxiv.org/abs/2011.10566. Written from the
paper; differs in its augmentations, in smaller layers by default (published: 2048, the predictor's inner layer 512), and in
that the predictor's learning rate decays as all do.
Shapes: B records, P embedding channels, D projected channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

import melp_bench as mb
from melp_plugins.info_nce import at_least_float32
from melp_plugins.objectives.self_distillation import check_widths, perceptron
from melp_plugins.views.augmentation import AUGMENTATION


def negative_cosine(predicted: Tensor, projected: Tensor) -> Tensor:
    """Return the mean of minus the cosines of (B, D) and (B, D), from -1 to 1; `projected` is taken as a constant."""
    return -F.cosine_similarity(predicted, projected.detach(), dim=-1).mean()


class SimSiam(mb.Objective):
    """Minus the cosine of each view's prediction and the other's projection, the mean of both directions.

    A low loss is no sign of a good encoder, which only a collapsed one would reach at once: the last weights are kept.
    """

    scale: ClassVar[str] = "signal"
    needs_global_batch: ClassVar[bool] = True
    keep: ClassVar[Literal["lowest", "last"]] = "last"

    def __init__(self, sizes: mb.Sizes, *, projected: int, bottleneck: int) -> None:
        super().__init__()
        self.project = perceptron(sizes.embedding, projected, projected, projected, norm_last=True)
        self.predict = perceptron(projected, bottleneck, projected)

    def views(self) -> Mapping[str, Sequence[mb.View]]:
        """Return two augmentations of a record."""
        return {"view1": AUGMENTATION, "view2": AUGMENTATION}

    def forward(self, view1: mb.Features, view2: mb.Features) -> Tensor:
        """Return the loss of two views of the same records."""
        one, two = self.project(view1.embedding), self.project(view2.embedding)
        from_one, from_two = self.predict(one), self.predict(two)
        with torch.autocast(one.device.type, enabled=False):
            one, two, from_one, from_two = (at_least_float32(z) for z in (one, two, from_one, from_two))
            return (negative_cosine(from_one, two) + negative_cosine(from_two, one)) / 2


def simsiam(sizes: mb.Sizes, *, projected: int = 512, bottleneck: int = 128) -> SimSiam:
    """Return SimSiam; `projected` is the width of the projector's layers, `bottleneck` of the predictor's inner layer.

    Raises:
        UserError: a width is not positive.
    """
    check_widths("simsiam", projected=projected, bottleneck=bottleneck)
    return SimSiam(sizes, projected=projected, bottleneck=bottleneck)


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer SimSiam."""
    return [
        mb.Entry(
            name="simsiam",
            build=simsiam,
            summary="predict another view's projection, through which no gradient flows",
            source="https://arxiv.org/abs/2011.10566",
            license="MIT",
        )
    ]
