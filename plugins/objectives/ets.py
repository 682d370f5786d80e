"""ETS: every record against every report of the batch, each pair a yes or a no.

Papers: D-BETA, Pham et al. 2025 (arXiv 2410.02131), after SigLIP, Zhai et al. 2023 (arXiv 2303.15343).
Written from the papers and parity data; differs as an objective in that all pairs it is given are aligned, where D-BETA swaps
half of the reports for dissimilar ones and labels those pairs 0.
Shapes: B pairs, D shared channels.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

import melp_bench as mb
from melp_plugins.info_nce import at_least_float32


def ets_loss(x: Tensor, y: Tensor, aligned: Tensor) -> Tensor:
    """Return the sigmoid loss of x, y (B, D), a mean over B x B pairs; `aligned` (B,) is 1 where x_i and y_i match."""
    sign = torch.diag(2 * aligned) - 1  # (B, B): 1 for a pair, -1 for none
    return -F.logsigmoid(sign * (x @ y.T)).mean()


class ETS(mb.Objective):
    """The published loss has neither a scale nor a bias, and does not normalise."""

    scale: ClassVar[str] = "rhythm"
    needs_global_batch: ClassVar[bool] = True

    def forward(self, ecg: mb.Features, text: mb.Features) -> Tensor:
        """Return the loss of records and their reports."""
        with torch.autocast(ecg.record.device.type, enabled=False):
            x, y = at_least_float32(ecg.record), at_least_float32(text.record)
            return ets_loss(x, y, torch.ones(len(x), dtype=x.dtype, device=x.device))


def ets(sizes: mb.Sizes) -> ETS:
    """Return ETS; it has no layer that depends on sizes."""
    return ETS()


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer ETS."""
    return [
        mb.Entry(
            name="ets",
            build=ets,
            summary="sigmoid loss over all pairs of records and reports (D-BETA)",
            source="https://arxiv.org/abs/2410.02131",
            license="MIT",
        )
    ]
