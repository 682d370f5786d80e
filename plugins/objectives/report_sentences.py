"""Reports of some of their sentences, as they would be tokenised.

Shapes: B reports, N tokens, S sentences of the longest report, K sentences in all.
"""

from __future__ import annotations

import torch
from torch import Tensor

import melp_bench as mb


def sentences_there(reports: mb.TextBatch) -> Tensor:
    """Return which sentences each report has, (B, S)."""
    number = torch.arange(max(int(reports.sentences.max()) + 1, 1), device=reports.ids.device)
    return number <= reports.sentences.amax(dim=1, keepdim=True)


def with_sentences(reports: mb.TextBatch, chosen: Tensor, *, pad_id: int) -> mb.TextBatch:
    """Return the reports with their `chosen` (B, S) sentences alone, numbered anew.

    What belongs to no sentence, such as [CLS], stays.
    """
    sentences = reports.sentences
    of, anew = sentences.clamp_min(0), chosen.cumsum(dim=1) - 1
    stays = reports.mask & ((sentences < 0) | chosen.gather(1, of))  # (B, N)
    order = torch.argsort((~stays).byte(), dim=1, stable=True)  # what stays moves together
    mask = stays.gather(1, order)[:, : int(stays.sum(dim=1).max())]
    order = order[:, : mask.shape[1]]
    numbered = torch.where(sentences < 0, sentences, anew.gather(1, of))
    return mb.TextBatch(
        torch.where(mask, reports.ids.gather(1, order), pad_id), mask, torch.where(mask, numbered.gather(1, order), -1)
    )


def single_sentences(reports: mb.TextBatch, *, pad_id: int) -> tuple[mb.TextBatch, Tensor]:
    """Return each sentence of each report as a report of its own, K in all, and where they belong, (B, S): -1 for none."""
    there = sentences_there(reports)
    row, number = there.nonzero(as_tuple=True)
    alone = torch.nn.functional.one_hot(number, there.shape[1]).bool()
    apart = mb.TextBatch(reports.ids[row], reports.mask[row], reports.sentences[row])
    place = torch.full(there.shape, -1, device=there.device)
    place[row, number] = torch.arange(len(row), device=there.device)
    return with_sentences(apart, alone, pad_id=pad_id), place
