"""What happens to the leads of a record: some rest, all but one rest, or the heart is turned before twelve electrodes.

Turning follows 3KG (Gopal et al. 2021, https://arxiv.org/abs/2106.04452): leads become a vectorcardiogram by the inverse of
Dower's matrix (Dower et al. 1980, https://doi.org/10.1002/clc.4960030205; Edenbrandt and Pahlm 1988,
https://doi.org/10.1016/0022-0736(88)90113-6), it is turned, and becomes leads again. It differs in that what no
vectorcardiogram explains of a lead is kept as it is, and in that III and the augmented leads follow from I and II.
Shapes: B records, L leads, T samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

import melp_bench as mb
from melp_bench.leads import LIMB
from melp_plugins.views.relative import check_between, level, uniform

DOWER = {
    "I": (0.632, -0.235, 0.059),
    "II": (0.235, 1.066, -0.132),
    "V1": (-0.515, 0.157, -0.917),
    "V2": (0.044, 0.164, -1.387),
    "V3": (0.882, 0.098, -1.277),
    "V4": (1.213, 0.127, -0.601),
    "V5": (1.125, 0.127, -0.086),
    "V6": (0.831, 0.076, 0.230),
}
"""Each independent lead as a sum of X (to the left), Y (to the feet) and Z (to the back): Dower et al. 1980."""


@dataclass(frozen=True, kw_only=True)
class MaskLeads(mb.View):
    """Each lead rests at its own level with `probability`; each record keeps at least one."""

    probability: float = 0.2

    def __post_init__(self) -> None:
        check_between("mask-leads", "probability", self.probability)

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Return `signal` (B, L, T) with some leads at rest."""
        draw = uniform(signal, generator, *signal.shape[:2], 1)
        masked = (draw < self.probability) & (draw < draw.amax(dim=1, keepdim=True))
        return torch.where(masked, level(signal), signal)


@dataclass(frozen=True, kw_only=True)
class LeadDropout(mb.View):
    """Exactly `leads` leads of each record, drawn at random, rest at their levels; one at least is always kept."""

    leads: int = 6

    def __post_init__(self) -> None:
        check_between("lead-dropout", "leads", self.leads, highest=1000)

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Return `signal` (B, L, T) with some leads at rest."""
        place = uniform(signal, generator, *signal.shape[:2]).argsort(dim=1).argsort(dim=1)  # (B, L)
        gone = place < min(self.leads, signal.shape[1] - 1)
        return torch.where(gone.unsqueeze(-1), level(signal), signal)


@dataclass(frozen=True, kw_only=True)
class KeepLead(mb.View):
    """One lead of the record by name; all others rest at their levels."""

    lead: str = "II"
    leads: tuple[str, ...] = mb.LEADS

    def __post_init__(self) -> None:
        if self.lead not in self.leads:
            raise mb.UserError(f"'keep-lead' is to keep {self.lead!r}; the encoder reads {', '.join(self.leads)}")

    def at(self, spec: mb.SignalSpec) -> KeepLead:
        """Return the view for records with the leads of `spec`.

        Raises:
            UserError: the lead is not among them.
        """
        return replace(self, leads=spec.leads)

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Return `signal` (B, L, T) with all leads but one at rest."""
        out = level(signal).expand_as(signal).clone()
        place = self.leads.index(self.lead)
        out[:, place] = signal[:, place]
        return out


@dataclass(frozen=True, kw_only=True)
class LeadMix(mb.View):
    """The heart turned about a random axis by up to `degrees`, and seen by the same electrodes.

    II = I + III and the identities of the augmented leads hold as well as they did. Leads must be in one unit.
    """

    degrees: float = 30.0
    leads: tuple[str, ...] = mb.LEADS

    def __post_init__(self) -> None:
        check_between("lead-mix", "degrees", self.degrees, highest=180.0)
        dower_inverse(self.leads)

    def at(self, spec: mb.SignalSpec) -> LeadMix:
        """Return the view for records with the leads of `spec`.

        Raises:
            UserError: the leads do not tell a vectorcardiogram, or each is scaled by itself.
        """
        if spec.scaling in (mb.Scaling.ZSCORE_LEAD, mb.Scaling.MINMAX_LEAD, mb.Scaling.SYMMETRIC_LEAD):
            raise mb.UserError(f"'lead-mix' adds up leads, which the encoder scales one by one ({spec.scaling}); leave it out")
        return replace(self, leads=spec.leads)

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Return `signal` (B, L, T) of a turned heart."""
        matrices = (dower(self.leads), dower_inverse(self.leads))
        seen, vector = (torch.tensor(rows, dtype=signal.dtype, device=signal.device) for rows in matrices)
        axis = torch.randn(len(signal), 3, generator=generator, device=signal.device, dtype=signal.dtype)
        angle = math.radians(self.degrees) * uniform(signal, generator, len(signal))
        turned = rotation(axis, angle) - torch.eye(3).to(signal)  # (B, 3, 3), less the record as it was
        return signal + seen @ (turned @ (vector @ (signal - level(signal))))


def dower(leads: tuple[str, ...]) -> tuple[tuple[float, ...], ...]:
    """Return each lead as a sum of X, Y and Z, (L, 3); the dependent limb leads as they follow from I and II.

    Raises:
        UserError: a lead is unknown.
    """
    rows = []
    for lead in leads:
        if lead not in DOWER and lead not in LIMB:
            raise mb.UserError(f"'lead-mix' knows no lead {lead!r}; known: {', '.join(mb.LEADS)}")
        one, two = LIMB.get(lead, (0.0, 0.0))
        follows = tuple(one * x + two * y for x, y in zip(DOWER["I"], DOWER["II"], strict=True))
        rows.append(DOWER.get(lead, follows))
    return tuple(rows)


@lru_cache(maxsize=64)
def dower_inverse(leads: tuple[str, ...]) -> tuple[tuple[float, ...], ...]:
    """Return X, Y and Z as sums of the leads, (3, L): the least-squares inverse over the independent leads among them.

    Raises:
        UserError: a lead is unknown, or the leads do not tell all three.
    """
    seen = torch.tensor(dower(leads), dtype=torch.float64)  # (L, 3)
    independent = torch.tensor([lead in DOWER for lead in leads])
    if int(torch.linalg.matrix_rank(seen[independent])) < 3:
        raise mb.UserError(f"'lead-mix' cannot tell a vectorcardiogram from {', '.join(leads)}; wanted I, II and chest leads")
    inverse = torch.zeros(3, len(leads), dtype=torch.float64)
    inverse[:, independent] = torch.linalg.pinv(seen[independent])
    return tuple(tuple(row) for row in inverse.tolist())


def rotation(axis: Tensor, angle: Tensor) -> Tensor:
    """Return rotations (B, 3, 3) about `axis` (B, 3) by `angle` (B,) in radians: Rodrigues' formula."""
    x, y, z = torch.nn.functional.normalize(axis, dim=-1).unbind(-1)
    nought = torch.zeros_like(x)
    cross = torch.stack([nought, -z, y, z, nought, -x, -y, x, nought], dim=-1).view(-1, 3, 3)
    sine, cosine = angle.sin()[:, None, None], angle.cos()[:, None, None]
    return torch.eye(3).to(axis) + sine * cross + (1 - cosine) * (cross @ cross)


def keep_lead(*, lead: str = "II") -> KeepLead:
    """Return the view that keeps one lead of the record.

    Raises:
        UserError: it is no standard lead.
    """
    return KeepLead(lead=lead)


def lead_mix(*, degrees: float = 30.0) -> LeadMix:
    """Return the view that turns the heart by up to `degrees`."""
    return LeadMix(degrees=degrees)


@mb.hookimpl
def melp_views() -> list[mb.Entry[mb.View]]:
    """Offer each change of leads."""
    masked, clocs = "https://arxiv.org/abs/2203.06889", "https://arxiv.org/abs/2005.13249"
    turned = "https://arxiv.org/abs/2106.04452"
    return [
        mb.Entry("mask-leads", MaskLeads, "random leads at rest", masked, "MIT"),
        mb.Entry("lead-dropout", LeadDropout, "so many random leads at rest", masked, "MIT"),
        mb.Entry("keep-lead", keep_lead, "one lead alone, all others at rest (CLOCS)", clocs, "MIT"),
        mb.Entry(
            "lead-mix",
            lead_mix,
            "the heart turned at random, seen by the same leads",
            turned,
            "MIT",
        ),
    ]
