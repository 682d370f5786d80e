"""Masked modelling with an eye on the other modality: hidden words of a report, and masked stretches of a record.

Papers: D-BETA's masked language and masked ECG modelling (MLM, MEM), Pham et al. 2025 (arXiv 2410.02131), after M3AE, Chen
et al. 2022 (arXiv 2209.07098). Written from the papers. Differs in that each of the two has a fusion of its own, in that the
other modality is shown whole, and in that the decoder of records is a transformer on the fused tokens. Three quarters of a
record's tokens are left out, and half of its leads rest.
Shapes: B pairs, L leads, R rows of tokens, P tokens of a row, M = R P, N words, H hidden words, D channels, S samples of a
patch, V words of the vocabulary.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb
from melp_bench.masking import without_separators
from melp_plugins.objectives.fusion import NEEDS_TOKENS, Fusion, build_fusion
from melp_plugins.objectives.masked_words import hide
from melp_plugins.objectives.row_decoder import NEEDS, row_length, smallest_stay, stretches

SOURCE = "https://arxiv.org/abs/2410.02131"


class FusedMaskedWords(mb.Objective):
    """The cross entropy of hidden words, of which the record may tell."""

    scale: ClassVar[str] = "token"

    def __init__(self, sizes: mb.Sizes, fusion: Fusion, *, width: int, chosen: float) -> None:
        super().__init__()
        self.fusion, self.vocab, self.chosen = fusion, sizes.vocab, chosen
        self.guess = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, sizes.vocab))

    def attach(self, model: mb.PretrainingModel) -> None:
        """Check that the text encoder can guess.

        Raises:
            UserError: it cannot.
        """
        text: object = model.text_encoder
        if not isinstance(text, mb.GuessesWords) or text.mask_id is None:
            kind = type(text).__name__
            raise mb.UserError(f"'fused-masked-words' needs a text encoder that can guess words, as 'bert'; {kind!r} cannot")

    def forward(self, ecg: mb.Features, reports: mb.TextBatch, text_encoder: mb.GuessesWords) -> tuple[Tensor, Tensor]:
        """Return the mean over the hidden words, and their number.

        Raises:
            UserError: the ECG encoder offers no tokens.
        """
        if ecg.tokens is None:
            raise mb.UserError(f"'fused-masked-words' {NEEDS_TOKENS}")
        shown, hidden = hide(reports, mask_id=text_encoder.mask_id or 0, vocab=self.vocab, chosen=self.chosen)
        _, words = self.fusion(ecg.tokens, text_encoder.both_ways(shown), ecg.tokens_mask, reports.mask)
        logits: Tensor = self.guess(words[hidden])  # (H, V)
        count = hidden.sum()
        total = F.cross_entropy(logits.float(), reports.ids[hidden], reduction="sum")
        return total / count.clamp_min(1), count.float()


class FusedMaskedRecord(mb.Objective):
    """The mean squared error of a record's masked stretches, of which the report may tell."""

    scale: ClassVar[str] = "signal"

    def __init__(
        self,
        fusion: Fusion,
        *,
        width: int,
        mask_ratio: float,
        lead_mask: float,
        decoder_width: int,
        decoder_layers: int,
        decoder_heads: int,
    ) -> None:
        super().__init__()
        self.fusion, self.mask_ratio, self.lead_mask = fusion, mask_ratio, lead_mask
        self.narrow = nn.Linear(width, decoder_width)
        self.hidden = nn.Parameter(0.02 * torch.randn(decoder_width))
        self.decoder = nn.ModuleList(
            nn.TransformerEncoderLayer(
                decoder_width, decoder_heads, 4 * decoder_width, 0.0, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(decoder_layers)
        )
        self.norm = nn.LayerNorm(decoder_width)

    def fits(self, encoder: mb.ECGEncoder) -> str | None:
        """Return why tokens of this encoder cannot be left out and rebuilt, or None."""
        if not isinstance(encoder, mb.MaskedEncoding):
            return NEEDS
        if encoder.token_rows not in (1, len(encoder.spec.leads)):
            return f"rebuilds rows of one lead or of all, and the encoder has {encoder.token_rows} rows of tokens"
        if self.masked_of(row_length(encoder) * encoder.token_rows) < 1:
            return f"masks none of the encoder's tokens with mask_ratio {self.mask_ratio}"
        return None

    def attach(self, model: mb.PretrainingModel) -> None:
        """Build what depends on the encoder's tokens.

        Raises:
            NotApplicable: the encoder does not fit.
        """
        encoder, width = model.encoder, self.norm.normalized_shape[0]
        if (reason := self.fits(encoder)) is not None or not isinstance(encoder, mb.MaskedEncoding):
            raise mb.NotApplicable(reason or NEEDS)
        self.rows, self.patches = encoder.token_rows, row_length(encoder)
        samples = -(-encoder.spec.samples // self.patches)  # of a lead
        self.place = nn.Parameter(0.02 * torch.randn(self.rows * self.patches, width))
        self.patch = nn.Linear(width, samples * len(encoder.spec.leads) // self.rows)

    def masked_of(self, tokens: int) -> int:
        """Return how many of a record's tokens are masked; one is left at least."""
        return min(round(self.mask_ratio * tokens), tokens - 1)

    def forward(self, signal: Tensor, encoder: mb.MaskedEncoding, text: mb.Features) -> Tensor:
        """Return the loss of records (B, L, T) and their reports, under a mask drawn at random.

        Raises:
            UserError: the text encoder offers no words.
        """
        if text.tokens is None:
            raise mb.UserError(f"'fused-masked-record' {NEEDS_TOKENS}")
        drawn = torch.rand(len(signal), self.rows * self.patches, device=signal.device)
        mask = smallest_stay(drawn, drawn.shape[1] - self.masked_of(drawn.shape[1]))  # (B, M)
        normed = encoder.normed(encoder.local(self._leads_at_rest(signal)))
        context = without_separators(encoder.contextual(normed, mask, None), encoder)  # (B, M, C)
        return self.loss(signal, self.decode(context, mask, text), mask)

    def decode(self, context: Tensor, mask: Tensor, text: mb.Features) -> Tensor:
        """Return predicted patches (B, M, S) of an encoder's context (B, M, C), 0 where `mask` (B, M) is True."""
        words = text.tokens if text.tokens is not None else context[:, :0]
        fused, _ = self.fusion(context, words, ~mask, text.tokens_mask)
        x = torch.where(mask[..., None], self.hidden.to(fused.dtype), self.narrow(fused)) + self.place
        for layer in self.decoder:
            x = layer(x)
        out: Tensor = self.patch(self.norm(x))
        return out

    def loss(self, signal: Tensor, predicted: Tensor, mask: Tensor) -> Tensor:
        """Return the mean squared error of `predicted` (B, M, S) where `mask` (B, M) is True."""
        cut = stretches(signal, self.patches)  # (B, L, P, samples)
        target = cut.reshape(len(cut), self.rows, -1, *cut.shape[2:])  # (B, R, L / R, P, samples)
        target = target.transpose(2, 3).flatten(3).flatten(1, 2)  # (B, M, S)
        error = (predicted - target).square().mean(dim=-1)  # (B, M)
        loss: Tensor = (error * mask).sum() / mask.sum()
        return loss

    def _leads_at_rest(self, signal: Tensor) -> Tensor:
        rest = torch.rand(*signal.shape[:2], 1, device=signal.device) < self.lead_mask  # (B, L, 1)
        return torch.where(rest, signal.median(dim=-1, keepdim=True).values, signal)


def fused_masked_words(
    sizes: mb.Sizes, *, width: int = 64, layers: int = 1, heads: int = 4, chosen: float = 0.15
) -> FusedMaskedWords:
    """Return masked words beside records; `width`, `layers` and `heads` are the fusion's (D-BETA: 768, 6, 12).

    Raises:
        UserError: there is no text encoder, or an option is out of its range.
    """
    if not 0 < chosen <= 1:
        raise mb.UserError(f"'fused-masked-words' with chosen {chosen}; wanted more than 0, and at most 1")
    fusion = build_fusion(sizes, name="fused-masked-words", width=width, layers=layers, heads=heads, returned=["words"])
    return FusedMaskedWords(sizes, fusion, width=width, chosen=chosen)


def fused_masked_record(
    sizes: mb.Sizes,
    *,
    width: int = 64,
    layers: int = 1,
    heads: int = 4,
    mask_ratio: float = 0.75,
    lead_mask: float = 0.5,
    decoder_width: int = 64,
    decoder_layers: int = 1,
    decoder_heads: int = 4,
) -> FusedMaskedRecord:
    """Return masked records beside reports (D-BETA: fusion 768, 6, 12; decoder 384, 4, 6).

    Raises:
        UserError: there is no text encoder, or an option is out of its range.
    """
    fusion = build_fusion(sizes, name="fused-masked-record", width=width, layers=layers, heads=heads, returned=["record"])
    decoder = min(decoder_width, decoder_layers, decoder_heads)
    if not 0 < mask_ratio < 1 or not 0 <= lead_mask < 1 or decoder < 1 or decoder_width % decoder_heads:
        raise mb.UserError(
            f"'fused-masked-record' with mask_ratio {mask_ratio}, lead_mask {lead_mask}, decoder_width {decoder_width}, "
            f"decoder_layers {decoder_layers}, decoder_heads {decoder_heads}; wanted shares from 0 to 1, at least 1 of each, "
            "and heads that divide the width"
        )
    return FusedMaskedRecord(
        fusion,
        width=width,
        mask_ratio=mask_ratio,
        lead_mask=lead_mask,
        decoder_width=decoder_width,
        decoder_layers=decoder_layers,
        decoder_heads=decoder_heads,
    )


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer both."""
    words, record = "hidden words, guessed beside the record (D-BETA)", "masked stretches, rebuilt beside the report (D-BETA)"
    return [
        mb.Entry(name="fused-masked-words", build=fused_masked_words, summary=words, source=SOURCE, license="MIT"),
        mb.Entry(name="fused-masked-record", build=fused_masked_record, summary=record, source=SOURCE, license="MIT"),
    ]
