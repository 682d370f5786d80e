"""HeartLang's two stages: a vocabulary of heartbeats, and sentences of heartbeats some of which are hidden and named.

Paper: Reading Your Heart: Learning ECG Words and Sentences via Pre-training ECG Language Model (Jin et al., ICLR 2025),
    https://arxiv.org/abs/2502.10707
Written from the paper and parity data. Both read the encoder `heartlang-in-training`. Differs in the vocabulary's start (words
of the first batch in place of k-means), and in that filled-up places of a sentence are hidden but not named.
Shapes: B records, L leads, T samples, W words of a sentence, C channels of a code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

import melp_bench as mb
from melp_plugins.ecg.heartlang import LICENSE, PAPER, HeartLangInTraining
from melp_plugins.info_nce import at_least_float32
from melp_plugins.objectives.row_decoder import smallest_stay

NEEDS = "needs HeartLang's encoder with its vocabulary, 'heartlang-in-training'"


def heartlang_of(model: mb.PretrainingModel) -> HeartLangInTraining:
    """Return the model's encoder.

    Raises:
        NotApplicable: it is another.
    """
    if not isinstance(model.encoder, HeartLangInTraining):
        raise mb.NotApplicable(NEEDS)
    return model.encoder


class HeartLangCodebook(mb.Objective):
    """The error of rebuilding heartbeats from their codes, and their distance from these: VQ-HBR.

    Codes move to the mean direction of what they name in the whole batch, on any number of ranks.
    """

    scale: ClassVar[str] = "signal"
    needs_global_batch: ClassVar[bool] = True

    def __init__(self, sizes: mb.Sizes) -> None:
        super().__init__()

    def fits(self, encoder: mb.ECGEncoder) -> str | None:
        """Return None for HeartLang's encoder with its vocabulary."""
        return None if isinstance(encoder, HeartLangInTraining) else NEEDS

    def attach(self, model: mb.PretrainingModel) -> None:
        """Let the vocabulary be trained."""
        heartlang_of(model).vqhbr.requires_grad_(True)

    def local(self, signal: Tensor, encoder: HeartLangInTraining) -> Mapping[str, Tensor]:
        """Return each record's loss (B,), and its words: directions (B, W, C), their codes and which are real (B, W)."""
        sentence, vocabulary = encoder.tokenizer(signal), encoder.vqhbr
        before = vocabulary.before_codes(sentence)
        named = vocabulary.quantize.named(before)
        rebuilt = vocabulary.decode(named.vectors, sentence)
        unit = F.normalize(before, dim=-1)
        distance = (unit - named.vectors.detach()).square().mean(dim=(1, 2))
        error = (at_least_float32(rebuilt) - sentence.words).square().mean(dim=(1, 2))
        return {"error": error + distance, "unit": unit.detach(), "codes": named.codes, "real": sentence.mask}

    def forward(self, error: Tensor, unit: Tensor, codes: Tensor, real: Tensor, encoder: HeartLangInTraining) -> Tensor:
        """Return the mean loss of records (B,), and let the codes move in training."""
        if self.training:
            encoder.vqhbr.quantize.learn(at_least_float32(unit), codes, real)
        return error.mean()


class HeartLangSentences(mb.Objective):
    """The cross entropy of the codes of hidden words, named from the words around them."""

    scale: ClassVar[str] = "signal"

    def __init__(self, sizes: mb.Sizes, *, share: float = 0.5) -> None:
        super().__init__()
        if not 0 < share < 1:
            raise mb.UserError(f"option 'share' is {share!r}; wanted more than 0 and less than 1")
        self.share = share

    def fits(self, encoder: mb.ECGEncoder) -> str | None:
        """Return None for HeartLang's encoder with its vocabulary."""
        return None if isinstance(encoder, HeartLangInTraining) else NEEDS

    def attach(self, model: mb.PretrainingModel) -> None:
        """Let the naming of words be trained, and the vocabulary rest."""
        encoder = heartlang_of(model)
        encoder.vqhbr.requires_grad_(False)
        encoder.backbone.lm_head.requires_grad_(True)
        encoder.backbone.mask_token.requires_grad_(True)

    def forward(self, signal: Tensor, encoder: HeartLangInTraining) -> tuple[Tensor, Tensor]:
        """Return the mean over hidden words, and their number."""
        sentence = encoder.tokenizer(signal)
        with torch.no_grad():
            codes = encoder.vqhbr.quantize.named(encoder.vqhbr.before_codes(sentence)).codes  # (B, W)
        words = codes.shape[1]
        masked = smallest_stay(torch.rand(codes.shape, device=codes.device), words - int(self.share * words))
        logits = encoder.backbone.name_masked(sentence.words, sentence.leads, sentence.seconds, masked)
        asked = sentence.mask[masked].float()
        errors = F.cross_entropy(at_least_float32(logits), codes[masked], reduction="none")
        count = asked.sum()
        return (errors * asked).sum() / count.clamp_min(1), count


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer HeartLang's stages."""
    return [
        mb.Entry(
            name="heartlang-codebook",
            build=HeartLangCodebook,
            summary="rebuild heartbeats from codes of a learned vocabulary (HeartLang's VQ-HBR)",
            source=PAPER,
            license=LICENSE,
        ),
        mb.Entry(
            name="heartlang-sentences",
            build=HeartLangSentences,
            summary="name hidden heartbeats by their codes (HeartLang's masked sentences)",
            source=PAPER,
            license=LICENSE,
        ),
    ]
