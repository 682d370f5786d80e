"""MERL's two terms: records against reports, and a record against itself under another dropout.

Paper: Zero-Shot ECG Classification with Multimodal Learning and Test-time Clinical Knowledge Enhancement (MERL),
    Liu et al. 2024, https://arxiv.org/abs/2403.06659.
`form="melp"` is the variant that MELP compares with: half the sum in both terms, and no normalisation in the second.
Shapes: B pairs, D shared channels, C channels of a record's vector.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb
from melp_plugins.info_nce import at_least_float32, info_nce
from melp_plugins.layers import masked_mean

FORMS = ("merl", "melp")


def cma_loss(ecg: Tensor, text: Tensor, *, temperature: float = 0.07, form: str = "merl") -> Tensor:
    """Return cross-modal alignment of `ecg` and `text` (B, D), normalised: both directions' sum ("melp": their mean)."""
    forwards, backwards = info_nce(F.normalize(ecg, dim=-1), F.normalize(text, dim=-1), temperature=temperature)
    return forwards + backwards if form == "merl" else (forwards + backwards) / 2


def uma_loss(one: Tensor, two: Tensor, *, temperature: float = 0.07, form: str = "merl") -> Tensor:
    """Return uni-modal alignment of two versions (B, D) of the same records; "melp" does not normalise, and halves the sum."""
    if form == "merl":
        return cma_loss(one, two, temperature=temperature)
    forwards, backwards = info_nce(one, two, temperature=temperature)
    return (forwards + backwards) / 2


class CMA(mb.Objective):
    """Cross-modal alignment with a fixed temperature."""

    scale: ClassVar[str] = "rhythm"
    needs_global_batch: ClassVar[bool] = True

    def __init__(self, *, temperature: float, form: str) -> None:
        super().__init__()
        self.temperature, self.form = temperature, form

    def forward(self, ecg: mb.Features, text: mb.Features) -> Tensor:
        """Return the loss of records and their reports."""
        with torch.autocast(ecg.record.device.type, enabled=False):
            x, y = at_least_float32(ecg.record), at_least_float32(text.record)
            return cma_loss(x, y, temperature=self.temperature, form=self.form)

    def chance(self, batch: int) -> float:
        """Return ln(batch) for each direction, or for their mean."""
        return math.log(batch) * (2 if self.form == "merl" else 1)


class UMA(mb.Objective):
    """Uni-modal alignment: one vector of a record under two dropouts, each through a linear map of its own.

    The vector is the `embedding`, or the mean of the `tokens` (as for MERL's ResNets, whose heads narrow them).
    """

    scale: ClassVar[str] = "signal"
    needs_global_batch: ClassVar[bool] = True

    def __init__(self, sizes: mb.Sizes, *, temperature: float, dropout: float, form: str, reads: str) -> None:
        super().__init__()
        self.temperature, self.form = temperature, form
        self.dropout = nn.Dropout(dropout)
        self.reads, width = reads, sizes.ecg_tokens if reads == "tokens" else sizes.embedding
        self.linear1 = nn.Linear(width, sizes.shared, bias=False)
        self.linear2 = nn.Linear(width, sizes.shared, bias=False)

    def local(self, ecg: mb.Features) -> Mapping[str, Tensor]:
        """Return the vector of each record, (B, C).

        Raises:
            UserError: it is made of tokens, and the encoder offers none.
        """
        if self.reads == "embedding":
            return {"vector": ecg.embedding}
        if ecg.tokens is None:
            raise mb.UserError("'uma' reads tokens, and the encoder offers none; set uma.reads=embedding")
        return {"vector": masked_mean(ecg.tokens, ecg.tokens_mask)}

    def forward(self, vector: Tensor) -> Tensor:
        """Return the loss of records."""
        one, two = self.linear1(self.dropout(vector)), self.linear2(self.dropout(vector))
        with torch.autocast(one.device.type, enabled=False):
            return uma_loss(at_least_float32(one), at_least_float32(two), temperature=self.temperature, form=self.form)

    def chance(self, batch: int) -> float:
        """Return ln(batch) for each direction, or for their mean."""
        return math.log(batch) * (2 if self.form == "merl" else 1)


def cma(sizes: mb.Sizes, *, temperature: float = 0.07, form: str = "merl") -> CMA:
    """Return cross-modal alignment.

    Raises:
        UserError: `form` is neither "merl" nor "melp", or the temperature is not positive.
    """
    _check(temperature, form)
    return CMA(temperature=temperature, form=form)


def uma(
    sizes: mb.Sizes, *, temperature: float = 0.07, dropout: float = 0.1, form: str = "merl", reads: str = "embedding"
) -> UMA:
    """Return uni-modal alignment.

    Raises:
        UserError: `form` is neither "merl" nor "melp", `reads` neither "embedding" nor "tokens", or the temperature is not
            positive.
    """
    _check(temperature, form)
    if reads not in ("embedding", "tokens"):
        raise mb.UserError(f"reads is {reads!r}; wanted embedding or tokens")
    return UMA(sizes, temperature=temperature, dropout=dropout, form=form, reads=reads)


def _check(temperature: float, form: str) -> None:
    if form not in FORMS:
        raise mb.UserError(f"form is {form!r}; wanted one of {', '.join(FORMS)}")
    if not temperature > 0:
        raise mb.UserError(f"temperature is {temperature}; wanted a positive number")


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer both terms."""
    source = "https://arxiv.org/abs/2403.06659"
    return [
        mb.Entry(name="cma", build=cma, summary="MERL's cross-modal alignment", source=source, license="MIT"),
        mb.Entry(name="uma", build=uma, summary="MERL's uni-modal alignment under two dropouts", source=source, license="MIT"),
    ]
