"""Beat level: every sentence of a report against the beats of a record.

Papers: GLoRIA, Huang et al. 2021 (local alignment); From Token to Rhythm (MELP), Wang et al. 2025, https://arxiv.org/abs/2506.21803.
Written from the papers, in the form that MELP publishes: the first softmax runs over a report's sentences, the second over a
record's beats. Differs in how it is computed: neither the B x B attended contexts (B, B, S, D) nor a loop over the batch is
needed, because a sentence's product with an attended beat is the attended product, and the attended beat's norm follows from
the beats' Gram matrix. Reports of equally many sentences are worked on together, so that no padding is, with the records last
in memory, so that both softmaxes run over whole vectors; and where there are many pairs, a part of the reports at a time, which
the backward pass makes again: memory is then linear in the reports.
Shapes: B pairs, S sentences (padded), Q beats, D shared channels; i counts reports, b records.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import melp_bench as mb
from melp_plugins.info_nce import at_least_float32, symmetric_info_nce

EPS = 1e-8
PART = 1 << 22
"""Products of a sentence and a beat that are in memory at a time, where there are more than four times as many."""


def local_similarity(
    beats: Tensor, sentences: Tensor, mask: Tensor, *, beats_mask: Tensor | None = None, temperature1: float = 4.0
) -> Tensor:
    """Return the cosine of every sentence with what it attends to in every record, (I, B, S); 0 of masked sentences.

    `beats` are (B, Q, D), `sentences` (I, S, D), `mask` (I, S), and `beats_mask` (B, Q) is True where a beat is real.
    """
    across = beats.permute(2, 1, 0).flatten(1)  # (D, Q B)
    gram = beats @ beats.transpose(1, 2)  # (B, Q, Q)
    hidden = None if beats_mask is None else torch.zeros_like(beats_mask.T, dtype=beats.dtype)
    if hidden is not None and beats_mask is not None:
        hidden = hidden.masked_fill(~beats_mask.T, float("-inf"))  # (Q, B)
    first = (~mask).to(torch.uint8).argsort(dim=1, stable=True)  # of each report, its real sentences first
    out = sentences.new_zeros(*mask.shape, len(beats))  # (I, S, B)
    again = torch.is_grad_enabled() and mask.numel() * across.shape[1] > 4 * PART
    for rows, count in _alike(mask.sum(dim=1), per_report=across.shape[1]):
        places = first[rows, :count]  # (i, s)
        real = mask[rows[:, None], places]  # (i, s), where more than the reports have
        given = (sentences[rows[:, None], places], real, across, gram, hidden, temperature1)
        cosine = checkpoint(_cosines, *given, use_reentrant=False) if again else _cosines(*given)
        out = out.index_put((rows[:, None], places), cosine)
    return out.transpose(1, 2)


def _alike(counts: Tensor, *, per_report: int) -> Iterator[tuple[Tensor, int]]:
    """Yield the reports, as rows (i,), that have about equally many sentences, some at a time, with the most that one has.

    Up to 8 they have exactly as many; words, which GLoRIA has in the place of sentences, are counted by eights.
    """
    kinds = torch.where(counts > 8, (counts + 7) // 8 * 8, counts)
    for kind in sorted(set(kinds.tolist()) - {0}):
        rows = torch.nonzero(kinds == kind).flatten()
        for part in torch.split(rows, max(1, PART // (kind * per_report))):
            yield part, int(counts[part].max())


def _cosines(
    sentences: Tensor, real: Tensor, across: Tensor, gram: Tensor, hidden: Tensor | None, temperature1: float
) -> Tensor:
    """Return the cosines (i, s, B) of `sentences` (i, s, D), 0 where not `real`, with what they attend to.

    `across` are the beats, (D, Q B), and `hidden` (Q, B) is added to their scores.
    """
    product = (sentences.flatten(0, 1) @ across).view(*real.shape, gram.shape[1], -1)  # (i, s, Q, B)
    missing = None if bool(real.all()) else ~real[..., None]
    scores = product if missing is None else product.masked_fill(missing[..., None], float("-inf"))
    scores = temperature1 * scores.softmax(dim=1)  # over the sentences of report i
    attention = (scores if hidden is None else scores + hidden).softmax(dim=2)  # over the beats of record b
    dot = (attention * product).sum(dim=2)  # (i, s, B)
    by_record = attention.flatten(0, 1).permute(2, 0, 1)  # (B, i s, Q)
    square = ((by_record @ gram) * by_record).sum(dim=2).T.reshape(dot.shape)
    norm = square.clamp_min(EPS**2).sqrt()
    length = sentences.square().sum(dim=-1, keepdim=True).clamp_min(EPS**2).sqrt()  # (i, s, 1)
    cosine = dot / (length * norm).clamp_min(EPS)
    return cosine if missing is None else cosine.masked_fill(missing, 0.0)


def own_attention(
    beats: Tensor, sentences: Tensor, mask: Tensor, *, beats_mask: Tensor | None = None, temperature1: float = 4.0
) -> Tensor:
    """Return how each sentence attends to the beats of its own record, (B, S, Q); 0 of masked sentences."""
    product = sentences @ beats.transpose(1, 2)
    attention = temperature1 * product.masked_fill(~mask[..., None], float("-inf")).softmax(dim=1)
    if beats_mask is not None:
        attention = attention.masked_fill(~beats_mask[:, None], float("-inf"))
    return attention.softmax(dim=2).masked_fill(~mask[..., None], 0.0)


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
    cosine = local_similarity(beats, sentences, mask, beats_mask=beats_mask, temperature1=temperature1)
    warm = (temperature2 * cosine).masked_fill(~mask[:, None, :], float("-inf"))
    similarity = warm.logsumexp(dim=2)  # (I, B)
    if aggregation == "mean":
        similarity = similarity - mask.sum(dim=1, keepdim=True).to(similarity.dtype).log()
    forwards, backwards = symmetric_info_nce(temperature3 * similarity.T)
    return (forwards + backwards) / 2, own_attention(
        beats.detach(), sentences.detach(), mask, beats_mask=beats_mask, temperature1=temperature1
    )


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
        return own_attention(
            at_least_float32(ecg.segments),
            at_least_float32(text.segments),
            text.segments_mask,
            beats_mask=ecg.segments_mask,
            temperature1=self.temperatures[0],
        )


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
