"""Beat level: every sentence of a report against the beats of a record.

Papers: GLoRIA, Huang et al. 2021 (local alignment); From Token to Rhythm (MELP), Wang et al. 2025, https://arxiv.org/abs/2506.21803.
Written from the papers, in the form that MELP publishes: the first softmax runs over a report's sentences, the second over a
record's beats. Differs in how it is computed: neither the B x B attended contexts (B, B, S, D) nor a loop over the batch is
needed, because a sentence's product with an attended beat is the attended product, and the attended beat's norm follows from
the beats' Gram matrix. The largest tensors are (B, B, S, Q).
Shapes: B pairs, S sentences (padded), Q beats, D shared channels; i counts reports, b records.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

import melp_bench as mb
from melp_plugins.info_nce import at_least_float32, symmetric_info_nce

EPS = 1e-8


def local_similarity(
    beats: Tensor, sentences: Tensor, mask: Tensor, *, beats_mask: Tensor | None = None, temperature1: float = 4.0
) -> tuple[Tensor, Tensor]:
    """Return the cosine of every sentence with what it attends to in every record, and that attention.

    For `beats` (B, Q, D), `sentences` (I, S, D) and `mask` (I, S): (I, B, S) and (I, B, S, Q). Masked sentences give 0 in both.
    """
    product = torch.einsum("isd,bqd->ibsq", sentences, beats)  # (I, B, S, Q)
    missing = ~mask[:, None, :, None]
    attention = product.masked_fill(missing, float("-inf")).softmax(dim=2)  # over the sentences of report i
    attention = temperature1 * attention
    if beats_mask is not None:
        attention = attention.masked_fill(~beats_mask[None, :, None, :], float("-inf"))
    attention = attention.softmax(dim=3)  # over the beats of record b
    dot = (attention * product).sum(dim=3)  # (I, B, S)
    gram = beats @ beats.transpose(1, 2)  # (B, Q, Q)
    attended = torch.einsum("ibsq,bqp->ibsp", attention, gram)
    norm = (attended * attention).sum(dim=3).clamp_min(EPS**2).sqrt()  # (I, B, S)
    length = sentences.square().sum(dim=-1).clamp_min(EPS**2).sqrt()[:, None, :]  # (I, 1, S)
    cosine = dot / (length * norm).clamp_min(EPS)
    return cosine.masked_fill(missing[..., 0], 0.0), attention.masked_fill(missing, 0.0)


def beat_alignment_loss(
    beats: Tensor,
    sentences: Tensor,
    mask: Tensor,
    *,
    beats_mask: Tensor | None = None,
    temperature1: float = 4.0,
    temperature2: float = 5.0,
    temperature3: float = 10.0,
    aggregation: str = "sum",
) -> tuple[Tensor, Tensor]:
    """Return the loss and each pair's own attention (B, S, Q).

    `beats` (B, Q, D), `sentences` (B, S, D) padded, `mask` (B, S) with at least one sentence per report. A report's similarity
    to a record is the log of the `sum` (or `mean`) over its sentences of exp(temperature2 * cosine); times temperature3 these
    are the logits of a symmetric cross entropy.
    """
    cosine, attention = local_similarity(beats, sentences, mask, beats_mask=beats_mask, temperature1=temperature1)
    warm = (temperature2 * cosine).masked_fill(~mask[:, None, :], float("-inf"))
    similarity = warm.logsumexp(dim=2)  # (I, B)
    if aggregation == "mean":
        similarity = similarity - mask.sum(dim=1, keepdim=True).to(similarity.dtype).log()
    forwards, backwards = symmetric_info_nce(temperature3 * similarity.T)
    own = torch.arange(len(beats), device=beats.device)
    return (forwards + backwards) / 2, attention[own, own]


class Beat(mb.Objective):
    """Local alignment of sentences and beats; negatives are the records and reports of one device's batch, as MELP has it."""

    scale: ClassVar[str] = "beat"

    def __init__(self, *, temperatures: tuple[float, float, float], aggregation: str) -> None:
        super().__init__()
        self.temperatures, self.aggregation = temperatures, aggregation

    def forward(self, ecg: mb.Features, text: mb.Features) -> Tensor:
        """Return the loss of records and their reports."""
        if ecg.segments is None or text.segments is None:
            raise mb.UserError(
                "the beat objective needs beats of records and sentences of reports; give the model beat queries"
            )
        mask = text.segments_mask
        if mask is None:
            mask = torch.ones(text.segments.shape[:2], dtype=torch.bool, device=text.segments.device)
        first, second, third = self.temperatures
        with torch.autocast(ecg.segments.device.type, enabled=False):
            loss, _ = beat_alignment_loss(
                at_least_float32(ecg.segments),
                at_least_float32(text.segments),
                mask,
                beats_mask=ecg.segments_mask,
                temperature1=first,
                temperature2=second,
                temperature3=third,
                aggregation=self.aggregation,
            )
        return loss

    def chance(self, batch: int) -> float:
        """Return ln(batch)."""
        return math.log(batch)

    def attention(self, ecg: mb.Features, text: mb.Features) -> Tensor | None:
        """Return each pair's own attention (B, S, Q); of sentences that are padding it is 0."""
        if ecg.segments is None or text.segments is None or text.segments_mask is None:
            return None
        _, attention = local_similarity(
            at_least_float32(ecg.segments),
            at_least_float32(text.segments),
            text.segments_mask,
            beats_mask=ecg.segments_mask,
            temperature1=self.temperatures[0],
        )
        own = torch.arange(len(attention), device=attention.device)
        return attention[own, own]


class GlobalBeat(Beat):
    """The same with the records and reports of all devices as negatives."""

    needs_global_batch: ClassVar[bool] = True


def beat(
    sizes: mb.Sizes,
    *,
    temperature1: float = 4.0,
    temperature2: float = 5.0,
    temperature3: float = 10.0,
    aggregation: str = "sum",
    global_batch: bool = False,
) -> Beat:
    """Return the beat objective.

    Raises:
        UserError: `aggregation` is neither "sum" nor "mean".
    """
    if aggregation not in ("sum", "mean"):
        raise mb.UserError(f"aggregation is {aggregation!r}; wanted 'sum' or 'mean'")
    kind = GlobalBeat if global_batch else Beat
    return kind(temperatures=(temperature1, temperature2, temperature3), aggregation=aggregation)


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer the beat objective."""
    return [
        mb.Entry(
            name="beat",
            build=beat,
            summary="GLoRIA-style local alignment of sentences and beats",
            source="https://arxiv.org/abs/2506.21803",
            license="MIT",
        )
    ]
