"""Fusion: records and reports read each other, layer by layer, after each was encoded alone.

Papers: Multi-modal Masked Autoencoders for Medical Vision-and-Language Pre-training (M3AE), Chen et al. 2022,
https://arxiv.org/abs/2209.07098; for ECGs, D-BETA, Pham et al. 2025 (arXiv 2410.02131). Written from the papers; differs in
that layers normalise before they read.
Shapes: B pairs, M record tokens, N words, D channels of the fusion.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import zip_longest

import torch
from torch import Tensor, nn

import melp_bench as mb

SIDES = ("record", "words")
NEEDS_TOKENS = "needs tokens of records and words of reports; the encoders offer none"


class Fusion(nn.Module):
    """Both modalities in one width, each marked as what it is; in every layer each reads itself, then the other.

    The last layer is made of those that `returned` names only, so that nothing is there that no loss reaches.
    """

    def __init__(self, *, ecg: int, text: int, width: int, layers: int, heads: int, returned: Collection[str] = SIDES) -> None:
        super().__init__()
        self.record, self.words = nn.Linear(ecg, width), nn.Linear(text, width)
        self.modality = nn.Parameter(0.02 * torch.randn(2, width))
        self.record_layers, self.word_layers = (
            nn.ModuleList(
                nn.TransformerDecoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
                for _ in range(layers if side in returned else layers - 1)
            )
            for side in SIDES
        )
        self.record_norm, self.word_norm = (nn.LayerNorm(width) if side in returned else nn.Identity() for side in SIDES)

    def forward(
        self, record: Tensor, words: Tensor, record_mask: Tensor | None = None, words_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return fused tokens (B, M, D) and fused words (B, N, D) of `record` (B, M, C) and `words` (B, N, E).

        Masks (B, M) and (B, N) are True where a token is real.
        """
        x, y = self.record(record) + self.modality[0], self.words(words) + self.modality[1]
        no_record, no_words = (None if mask is None else ~mask for mask in (record_mask, words_mask))
        for of_record, of_words in zip_longest(self.record_layers, self.word_layers):
            before = x
            if of_record is not None:
                x = of_record(x, y, tgt_key_padding_mask=no_record, memory_key_padding_mask=no_words)
            if of_words is not None:
                y = of_words(y, before, tgt_key_padding_mask=no_words, memory_key_padding_mask=no_record)
        return self.record_norm(x), self.word_norm(y)


def build_fusion(
    sizes: mb.Sizes, *, name: str, width: int, layers: int, heads: int, returned: Collection[str] = SIDES
) -> Fusion:
    """Return the fusion that the objective `name` reads.

    Raises:
        UserError: there is no text encoder, or sizes that do not fit.
    """
    if not sizes.text_tokens:
        raise mb.UserError(f"{name!r} fuses records with reports, and there is no text encoder; name one under [text]")
    if min(width, layers, heads) < 1 or width % heads:
        raise mb.UserError(
            f"{name!r} with width {width}, layers {layers}, heads {heads}; wanted at least 1 of each, and heads that divide "
            "the width"
        )
    return Fusion(ecg=sizes.ecg_tokens, text=sizes.text_tokens, width=width, layers=layers, heads=heads, returned=returned)
