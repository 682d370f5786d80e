"""An objective that only pulls the views of a record together, and collapses, unless it is told to contrast them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

import melp_bench as mb


class Apart(mb.View):
    """A record with noise of its own."""

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        return signal + 0.5 * torch.randn(signal.shape, generator=generator)


class Alike(mb.Objective):
    """Two views of a record agree; nothing keeps records apart unless they are `contrasted`."""

    scale: ClassVar[str] = "signal"

    def __init__(self, *, contrasted: bool) -> None:
        super().__init__()
        self.contrasted = contrasted

    def views(self) -> Mapping[str, Sequence[mb.View]]:
        return {"one": [Apart()], "two": [Apart()]}

    def forward(self, one: mb.Features, two: mb.Features) -> Tensor:
        a, b = F.normalize(one.embedding, dim=-1), F.normalize(two.embedding, dim=-1)
        if self.contrasted:
            return F.cross_entropy(a @ b.T / 0.1, torch.arange(len(a)))
        return -(a * b).sum(dim=-1).mean()
