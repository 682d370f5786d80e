"""An objective with a view of its own: a record without its chest leads is to be told from the others' with them."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

import melp_bench as mb


class LimbLeads(mb.View):
    """The record with its chest leads silent."""

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        return torch.cat([signal[:, :6], torch.zeros_like(signal[:, 6:])], dim=1)


class Limbs(mb.Objective):
    scale: ClassVar[str] = "signal"
    needs_global_batch: ClassVar[bool] = True

    def views(self) -> Mapping[str, Sequence[mb.View]]:
        return {"limbs": [LimbLeads()]}

    def forward(self, ecg: mb.Features, limbs: mb.Features) -> Tensor:
        one, two = F.normalize(ecg.embedding, dim=-1), F.normalize(limbs.embedding, dim=-1)
        return F.cross_entropy(10 * one @ two.T, torch.arange(len(one), device=one.device))


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    return [mb.Entry("added-limbs", lambda sizes: Limbs(), "records by their limb leads")]


@mb.hookimpl
def melp_views() -> list[mb.Entry[mb.View]]:
    return [mb.Entry("added-limb-leads", LimbLeads, "the record with its chest leads silent")]
