"""SigLIP: every record against every report of the batch, each pair a yes or a no, with a learned temperature and bias.

Paper: Sigmoid Loss for Language Image Pre-Training, Zhai et al. 2023, https://arxiv.org/abs/2303.15343.
Written from the paper. It is the sum over all pairs, divided by the records; `ets` is D-BETA's form, a mean over all pairs
without normalisation, temperature and bias. On several ranks the pairs are those of the global batch, where the paper hands
reports from rank to rank: the sum is the same.
Shapes: B pairs, D shared channels.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb
from melp_plugins.info_nce import at_least_float32, sigmoid_contrast

FIRST_SCALE, FIRST_BIAS = 10.0, -10.0  # of the paper; nearly all pairs are none, and the bias says so from the start


def siglip_loss(x: Tensor, y: Tensor, log_scale: Tensor, bias: Tensor) -> Tensor:
    """Return the sigmoid loss of pairs of normalised vectors (B, D): summed over all B x B pairs, divided by B."""
    return sigmoid_contrast(log_scale.exp() * x, y, bias) / len(x)


class SigLIP(mb.Objective):
    """The sigmoid loss between normalised records and reports."""

    scale: ClassVar[str] = "rhythm"
    needs_global_batch: ClassVar[bool] = True

    def __init__(self, *, first_scale: float, first_bias: float) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(first_scale)))
        self.bias = nn.Parameter(torch.tensor(first_bias))

    def forward(self, ecg: mb.Features, text: mb.Features) -> Tensor:
        """Return the loss of records and their reports."""
        with torch.autocast(ecg.record.device.type, enabled=False):
            x = F.normalize(at_least_float32(ecg.record), dim=-1)
            y = F.normalize(at_least_float32(text.record), dim=-1)
            return siglip_loss(x, y, self.log_scale, self.bias)

    def gauges(self) -> dict[str, mb.Gauge]:
        """Return the temperature, which has no bounds, and the bias."""
        return {
            "temperature": mb.Gauge(math.exp(-float(self.log_scale.detach()))),
            "bias": mb.Gauge(float(self.bias.detach())),
        }


def siglip(sizes: mb.Sizes, *, first_scale: float = FIRST_SCALE, first_bias: float = FIRST_BIAS) -> SigLIP:
    """Return SigLIP; the scale of the cosines and what is added to them are learned, from these values on.

    Raises:
        UserError: the scale is not positive.
    """
    if not first_scale > 0:
        raise mb.UserError(f"first_scale of 'siglip' is {first_scale}; wanted a positive number")
    return SigLIP(first_scale=first_scale, first_bias=first_bias)


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer SigLIP."""
    return [
        mb.Entry(
            name="siglip",
            build=siglip,
            summary="sigmoid loss over all pairs of records and reports, with a learned temperature and bias",
            source="https://arxiv.org/abs/2303.15343",
            license="MIT",
        )
    ]
