"""Matching: is this report of this record? Asked of what both make of each other, with reports chosen to be no match.

Papers: D-BETA's ECG-text matching (ETM) with nearest-neighbour negative sampling (N3S), Pham et al. 2025 (arXiv 2410.02131);
hard negatives as in ALBEF, Li et al. 2021 (arXiv 2107.07651). Written from the papers.
N3S takes a wrong report from the 64 of the whole corpus that are farthest, by a frozen language model, so that it is no match
under another wording. Differs in that it is taken from the batch, the farthest by the words they share (TF-IDF), and in that
every record is shown its own report and a wrong one, where the paper swaps the reports of half of a batch: the same question
without a draw. With `negatives="near"` it is the most similar other report instead. A report that says the same is no negative.
What is asked is the mean of the fused tokens and of the fused words, where D-BETA reads a class token of each.
Shapes: B pairs, D channels of the fusion.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb
from melp_plugins.info_nce import at_least_float32
from melp_plugins.layers import masked_mean
from melp_plugins.objectives.fusion import NEEDS_TOKENS, Fusion, build_fusion
from melp_plugins.objectives.report_similarity import report_similarity

TIE = 1e-3  # weight of the encoder's own cosine, which decides among reports that share equally few words
NEGATIVES = ("far", "near")


def wrong_reports(similarity: Tensor, states: Tensor, *, near: bool) -> tuple[Tensor, Tensor]:
    """Return which report each record is wrongly shown (B,), and whether there is one (B,): one that does not say the same.

    `similarity` (B, B) is that of the reports, `states` (B, D) are the encoder's.
    """
    direction = F.normalize(states.detach().float(), dim=-1)
    score = similarity + TIE * direction @ direction.T
    same = similarity >= 1
    score = (score if near else -score).masked_fill(same, float("-inf"))
    return score.argmax(dim=1), ~same.all(dim=1)


class Matching(mb.Objective):
    """Binary cross entropy of pairs: each record with its own report, and with a wrong one of the same device."""

    scale: ClassVar[str] = "rhythm"

    def __init__(self, fusion: Fusion, *, width: int, near: bool) -> None:
        super().__init__()
        self.fusion, self.near = fusion, near
        self.match = nn.Linear(2 * width, 1)

    def forward(self, ecg: mb.Features, text: mb.Features) -> tuple[Tensor, Tensor]:
        """Return the mean over the pairs that are shown, and their number.

        Raises:
            UserError: an encoder offers no tokens.
        """
        if ecg.tokens is None or text.tokens is None or text.token_ids is None or text.tokens_mask is None:
            raise mb.UserError(f"'etm' {NEEDS_TOKENS}")
        similarity = report_similarity(text.token_ids, text.tokens_mask)
        wrong, there = wrong_reports(similarity, text.record, near=self.near)
        own = torch.arange(len(there), device=there.device)
        shown, beside = torch.cat([own, wrong[there]]), torch.cat([own, own[there]])  # which report, to which record
        record_mask = None if ecg.tokens_mask is None else ecg.tokens_mask[beside]
        words_mask = text.tokens_mask[shown]
        tokens, words = self.fusion(ecg.tokens[beside], text.tokens[shown], record_mask, words_mask)
        pooled = torch.cat([masked_mean(tokens, record_mask), masked_mean(words, words_mask)], dim=-1)  # (pairs, 2 D)
        logits = at_least_float32(self.match(pooled)[:, 0])
        matched = (torch.arange(len(shown), device=logits.device) < len(own)).to(logits.dtype)
        loss = F.binary_cross_entropy_with_logits(logits, matched)
        return loss, torch.tensor(float(len(shown)), device=loss.device)


class GlobalMatching(Matching):
    """The same with wrong reports of all devices, each of which then asks about all pairs."""

    needs_global_batch: ClassVar[bool] = True


def etm(
    sizes: mb.Sizes, *, width: int = 64, layers: int = 1, heads: int = 4, negatives: str = "far", global_batch: bool = False
) -> Matching:
    """Return ECG-text matching; `width`, `layers` and `heads` are the fusion's (D-BETA: 768, 6, 12).

    Raises:
        UserError: there is no text encoder, or an option is out of its range.
    """
    if negatives not in NEGATIVES:
        raise mb.UserError(f"negatives of 'etm' are {negatives!r}; wanted one of {', '.join(NEGATIVES)}")
    fusion = build_fusion(sizes, name="etm", width=width, layers=layers, heads=heads)
    return (GlobalMatching if global_batch else Matching)(fusion, width=width, near=negatives == "near")


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer ECG-text matching."""
    return [
        mb.Entry(
            name="etm",
            build=etm,
            summary="is this report of this record: matching with chosen negatives (D-BETA)",
            source="https://arxiv.org/abs/2410.02131",
            license="MIT",
        )
    ]
