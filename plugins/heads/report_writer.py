"""Heads with a decoder that writes reports: MELP's heads, and beside them layers of words that read a record's tokens.

Papers: CoCa, Yu et al. 2022 (arXiv:2205.01917), whose decoder sees words causally and the record across; the logits are those
of the text encoder's own word table (Press and Wolf 2017, arXiv:1608.05859). The layers are PyTorch's, norm first. What stands
in heads is kept with a model, so that it can write when it is scored.
Shapes: B records, N words, M record tokens, D text channels.
"""

from __future__ import annotations

from torch import Tensor, nn

import melp_bench as mb
from melp_plugins.heads.melp import MELPHeads, check_projected


class ReportWriter(MELPHeads):
    """MELP's heads and a decoder, which `next_words` reads."""

    def __init__(self, widths: mb.Widths, *, width: int, queries: int, layers: int, heads: int, mlp_ratio: int) -> None:
        super().__init__(widths, width=width, queries=queries)
        inner = widths.text
        self.memory = nn.Linear(widths.ecg_tokens, inner)
        layer = nn.TransformerDecoderLayer(inner, heads, mlp_ratio * inner, 0.0, "gelu", batch_first=True, norm_first=True)
        self.decoder = nn.TransformerDecoder(layer, layers, nn.LayerNorm(inner))

    def next_words(self, ecg: mb.Features, text: mb.Features) -> Tensor:
        """Return states (B, N, D) of the words so far, each of which has read the words before it and the record.

        Raises:
            UserError: records or reports have no tokens.
        """
        if ecg.tokens is None or text.tokens is None:
            raise mb.UserError("heads 'report-writer' need tokens of records and of reports; the encoders offer none")
        words = text.tokens
        hidden = nn.Transformer.generate_square_subsequent_mask(words.shape[1], device=words.device, dtype=words.dtype)
        padding = None if ecg.tokens_mask is None else ~ecg.tokens_mask
        states: Tensor = self.decoder(words, self.memory(ecg.tokens), tgt_mask=hidden, memory_key_padding_mask=padding)
        return states


def report_writer(
    widths: mb.Widths, *, width: int = 128, queries: int = 12, layers: int = 1, heads: int = 4, mlp_ratio: int = 2
) -> ReportWriter:
    """Return MELP's heads with a decoder of `layers`.

    Raises:
        UserError: there is no text encoder, or no tokens of records; `heads` do not divide the text's width; or an option is
            out of its range.
    """
    if not widths.text or not widths.ecg_positions:
        raise mb.UserError("heads 'report-writer' want a text encoder, and an encoder that offers tokens of records")
    if min(width, layers, heads, mlp_ratio) < 1 or queries < 0 or widths.text % heads:
        told = f"width {width}, queries {queries}, layers {layers}, heads {heads}, mlp_ratio {mlp_ratio}"
        raise mb.UserError(f"heads 'report-writer' with {told}; wanted positive numbers, and heads that divide {widths.text}")
    check_projected(widths, width)
    return ReportWriter(widths, width=width, queries=queries, layers=layers, heads=heads, mlp_ratio=mlp_ratio)


@mb.hookimpl
def melp_heads() -> list[mb.Entry[mb.Heads]]:
    """Offer the heads that write."""
    return [
        mb.Entry(
            name="report-writer",
            build=report_writer,
            summary="MELP's heads and a decoder that writes reports",
            source="https://arxiv.org/abs/2205.01917",
            license="MIT",
        )
    ]
