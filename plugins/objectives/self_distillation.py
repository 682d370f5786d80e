"""What objectives share that learn from a target, which is the model itself as it was: projectors, and how a target follows.

Shapes: B records, P embedding channels.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

import melp_bench as mb
from melp_plugins.views.augmentation import AUGMENTATION


def perceptron(*widths: int, norm_last: bool = False) -> nn.Sequential:
    """Return linear layers of `widths` with batch norm and ReLU between them; with `norm_last`, a batch norm at the end.

    That last norm has no scale and shift of its own.
    """
    layers: list[nn.Module] = []
    for inner, outer in pairwise(widths):
        layers += [nn.Linear(inner, outer), nn.BatchNorm1d(outer), nn.ReLU()]
    return nn.Sequential(*layers[:-2], *([nn.BatchNorm1d(widths[-1], affine=False)] if norm_last else []))


def momentum_at(progress: float, *, base: float) -> float:
    """Return how much of itself a target keeps: from `base` to 1, along a cosine over the share of the steps done."""
    return 1 - (1 - base) * (math.cos(math.pi * progress) + 1) / 2


def check_widths(name: str, momentum: float = 0.0, **widths: int) -> None:
    """Go on if options are in their ranges.

    Raises:
        UserError: a width is not positive, or the momentum is not in [0, 1].
    """
    if min(widths.values()) < 1 or not 0 <= momentum <= 1:
        told = ", ".join(f"{option} {value}" for option, value in widths.items())
        raise mb.UserError(f"{name!r} with {told}, momentum {momentum}; wanted widths of at least 1, and 0 to 1")


class MomentumObjective(mb.Objective):
    """An objective with a target encoder and a target projector, which follow by an exponential moving average.

    A low loss is no sign of a good encoder, which only a collapsed one would reach at once: the last weights are kept.
    """

    scale: ClassVar[str] = "signal"
    needs_global_batch: ClassVar[bool] = True
    keep: ClassVar[Literal["lowest", "last"]] = "last"
    target_encoder: mb.ECGEncoder

    def __init__(self, project: nn.Module, *, momentum: float) -> None:
        super().__init__()
        self.momentum, self.project = momentum, project
        self.target_project = copy.deepcopy(project).requires_grad_(False)

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

    def projected_targets(self, *targets: Tensor) -> list[Tensor]:
        """Return the target's projections of its embeddings (B, P), without a gradient."""
        with torch.no_grad():
            return [self.target_project(target) for target in targets]

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Let the target follow the encoder and its projector."""
        kept = momentum_at(progress, base=self.momentum)
        for target, online in self.followed:
            for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
                slow.lerp_(fast, 1 - kept)
