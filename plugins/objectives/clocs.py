"""CLOCS over leads: what one patient's leads, or leads and segments, show belongs together; CMSC, over segments, is `cmsc`.

Paper: CLOCS, Contrastive Learning of Cardiac Signals Across Space, Time, and Patients, Kiyasseh et al. 2021,
https://arxiv.org/abs/2005.13249. Written from the paper. It differs in what a lead is: the paper's encoder reads one lead; here
an encoder of several leads reads a record in which all but one rest. CMLC contrasts the paper's four leads, CMSMLC two of them
in two halves of the record, which is as many readings; a recipe may name other views. The mean is over the pairs of views, so
that a loss does not grow with their number.
Shapes: B records, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

import melp_bench as mb
from melp_plugins.info_nce import at_least_float32
from melp_plugins.views.leads import KeepLead
from melp_plugins.views.parts import FIRST_HALF, SECOND_HALF

LEADS = ("II", "V2", "aVL", "aVR")
"""The leads that the paper learns from."""


def patient_contrast(one: Tensor, two: Tensor, patients: Tensor, *, temperature: float) -> Tensor:
    """Return the contrast of two views (B, D) of records whose `patients` are (B,): equations 1 to 3 of the paper.

    The cross entropy with which each record finds itself in the other view, and, where a patient has more records than one,
    that with which it finds those; the mean of each, both directions, summed.
    """
    logits = F.normalize(one, dim=-1) @ F.normalize(two, dim=-1).T / temperature  # (B, B)
    itself = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    other = (patients[:, None] == patients[None]) & ~itself
    total = logits.new_zeros(())
    for costs in (-logits.log_softmax(dim=1), -logits.log_softmax(dim=0)):
        total = total + costs.diagonal().mean() + (costs * other).sum() / other.sum().clamp_min(1)
    return total


def mean_contrast(views: Sequence[mb.Features], patients: Tensor, *, temperature: float) -> Tensor:
    """Return the mean of `patient_contrast` over all pairs of views."""
    with torch.autocast(views[0].record.device.type, enabled=False):
        records = [at_least_float32(view.record) for view in views]
        pairs = [patient_contrast(a, b, patients, temperature=temperature) for a, b in combinations(records, 2)]
        return torch.stack(pairs).mean()


class CMLC(mb.Objective):
    """Contrastive multi-lead coding: the leads of all records of a patient belong together."""

    scale: ClassVar[str] = "rhythm"
    needs_global_batch: ClassVar[bool] = True

    def __init__(self, *, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def views(self) -> Mapping[str, Sequence[mb.View]]:
        """Return four leads of a record."""
        return {f"lead{place}": [KeepLead(lead=lead)] for place, lead in enumerate(LEADS, start=1)}

    def forward(
        self, lead1: mb.Features, lead2: mb.Features, lead3: mb.Features, lead4: mb.Features, patients: Tensor
    ) -> Tensor:
        """Return the loss of the leads of records, given whose they are, `patients` (B,)."""
        return mean_contrast([lead1, lead2, lead3, lead4], patients, temperature=self.temperature)


class CMSMLC(mb.Objective):
    """Contrastive multi-segment multi-lead coding: the leads of the halves of all records of a patient belong together."""

    scale: ClassVar[str] = "rhythm"
    needs_global_batch: ClassVar[bool] = True

    def __init__(self, *, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def views(self) -> Mapping[str, Sequence[mb.View]]:
        """Return two leads of both halves of a record."""
        halves = {"half1": FIRST_HALF, "half2": SECOND_HALF}
        leads = {f"lead{place}": KeepLead(lead=lead) for place, lead in enumerate(LEADS[:2], start=1)}
        return {f"{half}_{lead}": [halves[half], leads[lead]] for half in halves for lead in leads}

    def forward(
        self,
        half1_lead1: mb.Features,
        half1_lead2: mb.Features,
        half2_lead1: mb.Features,
        half2_lead2: mb.Features,
        patients: Tensor,
    ) -> Tensor:
        """Return the loss of the leads of halves of records, given whose they are, `patients` (B,)."""
        views = [half1_lead1, half1_lead2, half2_lead1, half2_lead2]
        return mean_contrast(views, patients, temperature=self.temperature)


def cmlc(sizes: mb.Sizes, *, temperature: float = 0.1) -> CMLC:
    """Return CMLC.

    Raises:
        UserError: the temperature is not positive.
    """
    _check("cmlc", temperature)
    return CMLC(temperature=temperature)


def cmsmlc(sizes: mb.Sizes, *, temperature: float = 0.1) -> CMSMLC:
    """Return CMSMLC.

    Raises:
        UserError: the temperature is not positive.
    """
    _check("cmsmlc", temperature)
    return CMSMLC(temperature=temperature)


def _check(name: str, temperature: float) -> None:
    if not temperature > 0:
        raise mb.UserError(f"option 'temperature' of {name!r} is {temperature}; wanted a positive number")


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer both."""
    source, license_ = "https://arxiv.org/abs/2005.13249", "MIT"
    return [
        mb.Entry("cmlc", cmlc, "the leads of one patient's records belong together (CLOCS)", source, license_),
        mb.Entry("cmsmlc", cmsmlc, "leads and halves of one patient's records belong together (CLOCS)", source, license_),
    ]
