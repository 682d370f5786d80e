"""Soft negatives: a sigmoid loss in which a report that says nearly the same is nearly a match, for reports and for their tags.

Paper: Fine-grained Contrastive Learning for ECG-Report Alignment with Waveform Enhancement (FG-CLEP), Li et al. 2025,
https://arxiv.org/abs/2505.11939: a semantic similarity matrix of the reports tells false negatives, a sigmoid loss has a place
for several matches, and each tag of a report is compared with a representation of the record that is made for it.
In the spirit of it, from its abstract. Differs in that the matrix is of the words that reports share (TF-IDF within the batch),
not of a language model's states; in that tags are the sentences of a report, all of which are read, and a tag's representation
is what it attends to among the record's segments, as in `beat`; and in that no language model writes waveforms into reports.
Temperature and bias are SigLIP's (Zhai et al. 2023, https://arxiv.org/abs/2303.15343).
Shapes: B pairs, S sentences, N words, Q segments of a record, D shared channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb
from melp_plugins.info_nce import at_least_float32
from melp_plugins.objectives.beat import local_similarity
from melp_plugins.objectives.report_similarity import report_similarity, tf_idf_similarity, word_counts
from melp_plugins.objectives.siglip import FIRST_BIAS, FIRST_SCALE


def soft_sigmoid_loss(logits: Tensor, similarity: Tensor, *, threshold: float) -> Tensor:
    """Return the cross entropy of yes and no, (rows,): summed over the columns of `logits` (rows, B), one row per text.

    The target of a pair is the `similarity` (rows, B) of its text with the record's own, and 0 below the threshold.
    """
    target = similarity.masked_fill(similarity < threshold, 0.0).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(dim=-1)


def tag_similarity(words: Tensor, tag_of: Tensor, num_tags: int) -> Tensor:
    """Return how much each tag is what a report says in some tag of its own, (B, S, B); 1 for the report it is of.

    `words` (B, N) are ids, `tag_of` (B, N) the number of the sentence that each is of, -1 for none; S is `num_tags`.
    """
    reports = len(words)
    row = torch.arange(reports, device=words.device)[:, None] * num_tags
    flat = torch.where(tag_of >= 0, row + tag_of, -1)
    alike = tf_idf_similarity(word_counts(words, flat, reports * num_tags))  # a tag that is not there is like none
    best = alike.view(reports, num_tags, reports, num_tags).amax(dim=-1)  # (B, S, B)
    own = torch.eye(reports, dtype=torch.bool, device=words.device)[:, None]
    return best.masked_fill(own, 1.0)


class SoftSigmoid(mb.Objective):
    """What both forms share: a learned scale and bias, and the similarity from which on a negative is soft."""

    needs_global_batch: ClassVar[bool] = True

    def __init__(self, *, threshold: float, first_scale: float, first_bias: float) -> None:
        super().__init__()
        self.threshold = threshold
        self.log_scale = nn.Parameter(torch.tensor(math.log(first_scale)))
        self.bias = nn.Parameter(torch.tensor(first_bias))

    def logits(self, cosine: Tensor) -> Tensor:
        """Return the logits of cosines."""
        return self.log_scale.exp() * cosine + self.bias

    def gauges(self) -> dict[str, mb.Gauge]:
        """Return the temperature, which has no bounds, and the bias."""
        return {
            "temperature": mb.Gauge(math.exp(-float(self.log_scale.detach()))),
            "bias": mb.Gauge(float(self.bias.detach())),
        }


class SoftReports(SoftSigmoid):
    """Whole records against whole reports."""

    scale: ClassVar[str] = "rhythm"

    def forward(self, ecg: mb.Features, text: mb.Features) -> Tensor:
        """Return the loss of records and their reports."""
        if text.token_ids is None or text.tokens_mask is None:
            raise mb.UserError("'soft-reports' needs the words' ids and their mask; the text encoder offers none")
        similarity = report_similarity(text.token_ids, text.tokens_mask)
        with torch.autocast(ecg.record.device.type, enabled=False):
            x = F.normalize(at_least_float32(ecg.record), dim=-1)
            y = F.normalize(at_least_float32(text.record), dim=-1)
            return soft_sigmoid_loss(self.logits(y @ x.T), similarity, threshold=self.threshold).mean()


class SoftTags(SoftSigmoid):
    """Each tag of a report against what it attends to in each record."""

    scale: ClassVar[str] = "beat"

    def local(self, reports: mb.TextBatch) -> Mapping[str, Tensor]:
        """Return the words and, from 1 on, the number of the sentence each is of: 0, which also pads, is none."""
        return {"words": reports.ids, "sentence": reports.sentences + 1}

    def forward(self, ecg: mb.Features, text: mb.Features, words: Tensor, sentence: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean over the tags of all reports, and their number."""
        if ecg.segments is None or text.segments is None:
            raise mb.UserError("'soft-tags' needs segments of records and sentences of reports; give the heads queries")
        mask = text.segments_mask
        if mask is None:
            mask = torch.ones(text.segments.shape[:2], dtype=torch.bool, device=text.segments.device)
        similarity = tag_similarity(words, sentence - 1, mask.shape[1])  # (B, S, B)
        with torch.autocast(ecg.segments.device.type, enabled=False):
            beats, tags = at_least_float32(ecg.segments), at_least_float32(text.segments)
            cosine, _ = local_similarity(beats, tags, mask, beats_mask=ecg.segments_mask)  # (reports, records, S)
            logits = self.logits(cosine.transpose(1, 2))[mask]  # (tags, B)
            loss = soft_sigmoid_loss(logits, similarity[mask], threshold=self.threshold)
        return loss.mean(), mask.sum().float()


def _soft(kind: type[SoftSigmoid], threshold: float, first_scale: float, first_bias: float) -> SoftSigmoid:
    if not 0 < threshold <= 1 or not first_scale > 0:
        raise mb.UserError(
            f"threshold {threshold} and first_scale {first_scale} of a soft sigmoid loss; wanted a threshold above 0 and "
            "at most 1, and a positive scale"
        )
    return kind(threshold=threshold, first_scale=first_scale, first_bias=first_bias)


def soft_reports(
    sizes: mb.Sizes, *, threshold: float = 0.5, first_scale: float = FIRST_SCALE, first_bias: float = FIRST_BIAS
) -> SoftSigmoid:
    """Return the form of whole reports; those that are less alike than the threshold, from 0 to 1, are plain negatives.

    Raises:
        UserError: the threshold is out of its range, or the scale is not positive.
    """
    return _soft(SoftReports, threshold, first_scale, first_bias)


def soft_tags(
    sizes: mb.Sizes, *, threshold: float = 0.5, first_scale: float = FIRST_SCALE, first_bias: float = FIRST_BIAS
) -> SoftSigmoid:
    """Return the form of tags; those that are less alike than the threshold, from 0 to 1, are plain negatives.

    Raises:
        UserError: the threshold is out of its range, or the scale is not positive.
    """
    return _soft(SoftTags, threshold, first_scale, first_bias)


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer both forms."""
    source = "https://arxiv.org/abs/2505.11939"
    summary = "sigmoid loss in which similar reports are soft negatives (FG-CLEP's idea)"
    local = "sigmoid loss of each sentence of a report with what it attends to in every record, similar ones soft"
    return [
        mb.Entry(name="soft-reports", build=soft_reports, summary=summary, source=source, license="MIT"),
        mb.Entry(name="soft-tags", build=soft_tags, summary=local, source=source, license="MIT"),
    ]
