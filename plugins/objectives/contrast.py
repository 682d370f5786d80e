"""Rhythm level: whole records against whole reports.

Papers: CLIP, Radford et al. 2021, https://arxiv.org/abs/2103.00020; From Token to Rhythm (MELP), Wang et al. 2025.
Shapes: B pairs, D shared channels.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb
from melp_plugins.info_nce import INITIAL_LOG_SCALE, MAXIMUM_LOG_SCALE, at_least_float32, info_nce, temperature_gauge


def clip_loss(x: Tensor, y: Tensor, log_scale: Tensor) -> Tensor:
    """Return the symmetric InfoNCE of pairs of vectors (B, D), the mean of both directions; it does not normalise them."""
    forwards, backwards = info_nce(log_scale.exp() * x, y)
    return (forwards + backwards) / 2


class Rhythm(mb.Objective):
    """CLIP between normalised records and reports, its scale learned within [0, ln 100]."""

    scale: ClassVar[str] = "rhythm"
    needs_global_batch: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE))

    def forward(self, ecg: mb.Features, text: mb.Features) -> Tensor:
        """Return the loss of records and their reports."""
        with torch.autocast(ecg.record.device.type, enabled=False):
            x = F.normalize(at_least_float32(ecg.record), dim=-1)
            y = F.normalize(at_least_float32(text.record), dim=-1)
            return clip_loss(x, y, self.log_scale.clamp(0.0, MAXIMUM_LOG_SCALE))

    def gauges(self) -> dict[str, mb.Gauge]:
        """Return the temperature, the scale's inverse."""
        return {"temperature": temperature_gauge(self.log_scale)}

    def chance(self, batch: int) -> float:
        """Return ln(batch)."""
        return math.log(batch)


def rhythm(sizes: mb.Sizes) -> Rhythm:
    """Return the rhythm objective; it has no layer that depends on sizes."""
    return Rhythm()


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer the rhythm objective."""
    return [
        mb.Entry(
            name="rhythm",
            build=rhythm,
            summary="CLIP between whole records and whole reports, with a learned scale",
            source="https://arxiv.org/abs/2103.00020",
            license="MIT",
        )
    ]
