"""Sentence contrast: each record against each sentence of the batch's reports, of which several are its own.

Papers: UniCL, Yang et al. 2022, https://arxiv.org/abs/2204.03610: contrast in both directions with several positives; ConVIRT,
Zhang et al. 2020, https://arxiv.org/abs/2010.00747, which reads one sentence of each report. Differs in that every sentence of
every report is read, each once: a sentence that several reports share is one text, and all of their records are its own.
A sentence is read as a report of one sentence, which is how zero-shot reads a prompt.
Shapes: B pairs, S sentences of the longest report, N tokens, U different sentences, D shared channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb
from melp_plugins.info_nce import INITIAL_LOG_SCALE, MAXIMUM_LOG_SCALE, at_least_float32, temperature_gauge
from melp_plugins.objectives.report_sentences import single_sentences


def several_positives(logits: Tensor, positive: Tensor) -> Tensor:
    """Return the contrast of rows and columns of `logits` (B, U), of which those that are `positive` belong together.

    Of a row the mean over its positives of their cross entropy among all columns, then the mean over rows that have some; the
    same of columns; the mean of both.
    """
    sides = []
    for scores, belong in ((logits, positive), (logits.T, positive.T)):
        cost = -(scores.log_softmax(dim=1) * belong).sum(dim=1) / belong.sum(dim=1).clamp_min(1)
        sides.append(cost.sum() / belong.any(dim=1).sum().clamp_min(1))
    return (sides[0] + sides[1]) / 2


class SentenceContrast(mb.Objective):
    """The contrast of normalised records and sentences, its scale learned within [0, ln 100]."""

    scale: ClassVar[str] = "rhythm"
    needs_global_batch: ClassVar[bool] = True
    read: Callable[[mb.TextBatch], mb.Features]

    def __init__(self, *, pad_id: int) -> None:
        super().__init__()
        self.pad_id = pad_id
        self.log_scale = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE))

    def attach(self, model: mb.PretrainingModel) -> None:
        """Read sentences as the model reads reports, through its heads."""
        self.read = model.text

    def local(self, ecg: mb.Features, reports: mb.TextBatch) -> Mapping[str, Tensor]:
        """Return records (B, D), the sentences of each report (B, S, D), and a number for what each says (B, S), 0 for none."""
        apart, place = single_sentences(reports, pad_id=self.pad_id)
        spelt = torch.where(apart.mask, apart.ids + 1, 0)
        factor = torch.arange(1, spelt.shape[1] + 1, device=spelt.device).mul(0x9E3779B97F4A7C1).bitwise_or(1)
        number = (spelt * factor).sum(dim=1).bitwise_or(1)  # 64 bits, with overflow
        _, first, of = _first_of_equals(number)
        sentences = self.read(mb.TextBatch(apart.ids[first], apart.mask[first], apart.sentences[first])).record[of]  # (K, D)
        there = place >= 0
        return {
            "records": ecg.record,
            "said": torch.where(there[..., None], sentences[place.clamp_min(0)], 0.0),
            "number": torch.where(there, number[place.clamp_min(0)], 0),
        }

    def forward(self, records: Tensor, said: Tensor, number: Tensor) -> Tensor:
        """Return the loss of records and the sentences of all reports."""
        there = number.flatten() != 0
        different, first, _ = _first_of_equals(number.flatten()[there])
        texts = said.flatten(0, 1)[there][first]  # (U, D)
        positive = (number[:, :, None] == different).any(dim=1)  # (B, U)
        with torch.autocast(records.device.type, enabled=False):
            x, y = (F.normalize(at_least_float32(one), dim=-1) for one in (records, texts))
            return several_positives(self.log_scale.clamp(0.0, MAXIMUM_LOG_SCALE).exp() * x @ y.T, positive)

    def gauges(self) -> dict[str, mb.Gauge]:
        """Return the temperature, the scale's inverse."""
        return {"temperature": temperature_gauge(self.log_scale)}


def _first_of_equals(numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the different numbers (U,), where each stands first (U,), and which one each is (K,)."""
    different, of = torch.unique(numbers, return_inverse=True)
    place = torch.arange(len(numbers), device=numbers.device)
    first = torch.full_like(different, len(numbers)).scatter_reduce(0, of, place, "amin")
    return different, first, of


def sentence_contrast(sizes: mb.Sizes) -> SentenceContrast:
    """Return the objective.

    Raises:
        UserError: there is no text encoder.
    """
    if not sizes.text_tokens:
        raise mb.UserError("the sentence-contrast objective needs a text encoder; name one under [text]")
    return SentenceContrast(pad_id=sizes.pad_id)


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer the contrast of records and sentences."""
    return [
        mb.Entry(
            name="sentence-contrast",
            build=sentence_contrast,
            summary="records against all different sentences of the batch's reports, several of which are a record's own",
            source="https://arxiv.org/abs/2204.03610",
            license="MIT",
        )
    ]
