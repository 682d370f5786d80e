"""Token level: a decoder writes the report, word by word, with an eye on the record.

Papers: CoCa, Yu et al. 2022, https://arxiv.org/abs/2205.01917; From Token to Rhythm (MELP), Wang et al. 2025.
Written from the papers; differs in also predicting the token that ends a report.
Shapes: B pairs, N words, M record tokens, D text channels, V vocabulary.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb
from melp_plugins.info_nce import symmetric_info_nce
from melp_plugins.layers import Attention, QueryPool


def caption_loss(logits: Tensor, labels: Tensor, *, pad_id: int) -> Tensor:
    """Return the cross entropy of `logits` (B, N, V), its mean over all `labels` (B, N) that are no padding."""
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=pad_id, reduction="sum")
    return loss / (labels != pad_id).sum().clamp_min(1)


def coca_loss(
    x: Tensor, y: Tensor, log_scale: Tensor, logits: Tensor, labels: Tensor,
    *, pad_id: int = 0, clip_weight: float = 1.0, caption_weight: float = 2.0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return CoCa's two weighted terms: contrast of `x` and `y` (B, D), and captioning."""
    forwards, backwards = symmetric_info_nce(log_scale.exp() * x @ y.T)
    return clip_weight * (forwards + backwards) / 2, caption_weight * caption_loss(logits, labels, pad_id=pad_id)


class CaptionAttention(nn.Module):
    """A pre-norm attention block with its perceptron: over the words so far, or, given a `memory`, over the record."""

    def __init__(self, *, width: int, heads: int, mlp_ratio: int, crosses: bool) -> None:
        super().__init__()
        self.norm_query, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.norm_memory: nn.Module = nn.LayerNorm(width) if crosses else nn.Identity()
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_ratio * width), nn.GELU(), nn.Linear(mlp_ratio * width, width))

    def forward(self, x: Tensor, *, memory: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Return (B, N, D) for `x` (B, N, D); `mask` (B, M) is True where the `memory` (B, M, D) is real."""
        query = self.norm_query(x)
        if memory is None:
            hidden = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device, dtype=query.dtype)
            attended, _ = self.attention(query, query, query, attn_mask=hidden, is_causal=True, need_weights=False)
        else:
            memory = self.norm_memory(memory)
            padding = None if mask is None else ~mask
            attended, _ = self.attention(query, memory, memory, key_padding_mask=padding, need_weights=False)
        x = x + attended
        out: Tensor = x + self.mlp(self.norm_mlp(x))
        return out


class Decoder(nn.Module):
    """Layers of causal self-attention over words and cross-attention to record tokens; vocabulary logits come out."""

    def __init__(self, sizes: mb.Sizes, *, layers: int, heads: int, queries: int, mlp_ratio: int) -> None:
        super().__init__()
        width = sizes.text_tokens
        self.pool = QueryPool(queries=queries, width=width, context=sizes.ecg_tokens, heads=heads) if queries else None
        self.project: nn.Module = nn.Identity() if queries else nn.Linear(sizes.ecg_tokens, width)
        self.words = nn.ModuleList(
            CaptionAttention(width=width, heads=heads, mlp_ratio=mlp_ratio, crosses=False) for _ in range(layers)
        )
        self.records = nn.ModuleList(
            CaptionAttention(width=width, heads=heads, mlp_ratio=mlp_ratio, crosses=True) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.vocabulary = nn.Linear(width, sizes.vocab, bias=False)

    def forward(self, words: Tensor, record: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return logits (B, N, V) of the word after each of `words` (B, N, D), given the record's tokens (B, M, C)."""
        logits: Tensor = self.vocabulary(self.states(words, record, mask))
        return logits

    def states(self, words: Tensor, record: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return what the vocabulary's logits are read from, (B, N, D)."""
        if self.pool is not None:
            record, mask = self.pool(record, mask), None
        memory = self.project(record)  # (B, M, D)
        x = words
        for over_words, over_record in zip(self.words, self.records, strict=True):
            x = over_record(over_words(x), memory=memory, mask=mask)
        states: Tensor = self.norm(x)
        return states


class Token(mb.Objective):
    """Captioning: the next word of a report from the words before it and from the record."""

    scale: ClassVar[str] = "token"

    def __init__(self, sizes: mb.Sizes, *, layers: int, heads: int, queries: int, mlp_ratio: int) -> None:
        super().__init__()
        self.pad_id = sizes.pad_id
        self.decoder = Decoder(sizes, layers=layers, heads=heads, queries=queries, mlp_ratio=mlp_ratio)

    def logits(self, ecg: mb.Features, text: mb.Features) -> Tensor:
        """Return the logits (B, N - 1, V) of every word but the first."""
        logits: Tensor = self.decoder.vocabulary(self._states(ecg, text))
        return logits

    def _states(self, ecg: mb.Features, text: mb.Features) -> Tensor:
        if ecg.tokens is None or text.tokens is None:
            raise mb.UserError("the token objective needs tokens of records and of reports; the encoders offer none")
        return self.decoder.states(text.tokens[:, :-1], ecg.tokens, ecg.tokens_mask)

    def labels(self, text: mb.Features) -> Tensor:
        """Return the ids (B, N - 1) of every word but the first, padding where there is none."""
        if text.token_ids is None or text.tokens_mask is None:
            raise mb.UserError("the token objective needs the words' ids and their mask; the text encoder offers none")
        return text.token_ids.masked_fill(~text.tokens_mask, self.pad_id)[:, 1:]

    def forward(self, ecg: mb.Features, text: mb.Features) -> tuple[Tensor, Tensor]:
        """Return the mean over the words of all reports, and their number."""
        labels = self.labels(text)
        real = labels != self.pad_id  # padding is left out before the vocabulary, the widest layer of all
        logits = self.decoder.vocabulary(self._states(ecg, text)[real])  # (words, V)
        return caption_loss(logits[None].float(), labels[real][None], pad_id=self.pad_id), real.sum().float()


def token(sizes: mb.Sizes, *, layers: int = 1, heads: int = 4, queries: int = 0, mlp_ratio: int = 2) -> Token:
    """Return the captioning objective; with `queries` the decoder reads pooled record tokens (MELP: 128).

    Raises:
        UserError: no causal text encoder, or a text width that heads do not divide.
    """
    if not sizes.text_tokens or not sizes.causal_text:
        raise mb.UserError(
            "the token objective needs a causal text encoder (bert with causal=true); another would show it the answer"
        )
    if min(heads, layers, mlp_ratio) < 1 or queries < 0 or sizes.text_tokens % heads:
        raise mb.UserError(f"layers {layers}, heads {heads}, queries {queries}: wanted heads that divide {sizes.text_tokens}")
    return Token(sizes, layers=layers, heads=heads, queries=queries, mlp_ratio=mlp_ratio)


@mb.hookimpl
def melp_objectives() -> list[mb.Entry[mb.Objective]]:
    """Offer the token objective."""
    return [
        mb.Entry(
            name="token",
            build=token,
            summary="captioning through a multimodal decoder",
            source="https://arxiv.org/abs/2205.01917",
            license="MIT",
        )
    ]
