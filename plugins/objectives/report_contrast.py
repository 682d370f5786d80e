"""Report contrast: two draws of a report's sentences find each other among those of the other reports.

Papers: DeCLUTR, Giorgi et al. 2021, https://arxiv.org/abs/2006.03659: spans of one document belong together, those of others
apart; the loss is NT-Xent (SimCLR, Chen et al. 2020). Differs in that a draw is of whole sentences, because a report is a list
of statements, and in that it is one draw against one. It gives a text encoder that begins untrained what MERL's has from
its own pretraining: reports that say different things lie apart before records are aligned with them.
Shapes: B reports, N tokens, D shared channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor

import melp_bench as mb
from melp_plugins.info_nce import at_least_float32
from melp_plugins.objectives.report_sentences import sentences_there, with_sentences
from melp_plugins.objectives.simclr import nt_xent


def drawn_sentences(reports: mb.TextBatch, *, kept: float, pad_id: int) -> mb.TextBatch:
    """Return reports with each sentence kept by a chance of `kept`; of one that would lose all, one at random is kept."""
    there = sentences_there(reports)
    draw = torch.rand(there.shape, device=there.device).masked_fill(~there, 2.0)
    chosen = (draw < kept) | (draw == draw.amin(dim=1, keepdim=True))
    return with_sentences(reports, chosen, pad_id=pad_id)


class ReportContrast(mb.Objective):
    """The NT-Xent of two draws of each report."""

    scale: ClassVar[str] = "rhythm"
    needs_global_batch: ClassVar[bool] = True
    read: Callable[[mb.TextBatch], mb.Features]

    def __init__(self, *, kept: float, temperature: float, pad_id: int) -> None:
        super().__init__()
        self.kept, self.temperature, self.pad_id = kept, temperature, pad_id

    def attach(self, model: mb.PretrainingModel) -> None:
        """Read reports as the model does, through its heads."""
        self.read = model.text

    def local(self, reports: mb.TextBatch) -> Mapping[str, Tensor]:
        """Return both draws' vectors (B, D)."""
        one, two = (self.read(drawn_sentences(reports, kept=self.kept, pad_id=self.pad_id)).record for _ in range(2))
        return {"draw1": one, "draw2": two}

    def forward(self, draw1: Tensor, draw2: Tensor) -> Tensor:
        """Return the loss of two draws of each report, (B, D) each."""
        with torch.autocast(draw1.device.type, enabled=False):
            return nt_xent(at_least_float32(draw1), at_least_float32(draw2), temperature=self.temperature)

    def chance(self, batch: int) -> float:
        """Return the logarithm of the number of candidates: all other draws."""
        return math.log(2 * batch - 1)


def report_contrast(sizes: mb.Sizes, *, kept: float = 0.7, temperature: float = 0.07) -> ReportContrast:
    """Return the objective; `kept` is a sentence's chance to be in a draw.

    Raises:
        UserError: there is no text encoder, or an option is out of its range.
    """
    if not sizes.text_tokens:
        raise mb.UserError("the report-contrast objective needs a text encoder; name one under [text]")
    if not (0 < kept < 1 and temperature > 0):
        raise mb.UserError(
            f"'report-contrast' with kept {kept}, temperature {temperature}; wanted kept between 0 and 1, and a temperature "
            "above 0"
        )
    return ReportContrast(kept=kept, temperature=temperature, pad_id=sizes.pad_id)


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer the contrast of reports."""
    return [
        mb.Entry(
            name="report-contrast",
            build=report_contrast,
            summary="two draws of a report's sentences find each other in the batch; trains the text encoder",
            source="https://arxiv.org/abs/2006.03659",
            license="MIT",
        )
    ]
