"""MELP's multimodal decoder: causal layers over words, each followed by a layer that reads the record.

Papers: CoCa, Yu et al. 2022 (arXiv 2205.01917); From Token to Rhythm (MELP), Wang et al. 2025 (arXiv 2506.21803).
Names of parameters are those of the published checkpoints (MIT). Written from the papers and parity data.
Shapes: B pairs, N words, M record tokens, D channels, V vocabulary.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

import melp_bench as mb
from melp_bench.published.family import Shapes, count_blocks

PUBLISHED_HEADS = 8


class DecoderBlock(nn.Module):
    """A pre-norm attention block with its perceptron; `crosses` to a memory that has a norm of its own."""

    def __init__(self, width: int, heads: int, *, crosses: bool) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        if crosses:
            self.ln_1_kv = nn.LayerNorm(width)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(width, 4 * width), gelu=nn.GELU(), c_proj=nn.Linear(4 * width, width))
        )

    def forward(self, x: Tensor, memory: Tensor | None = None, memory_padding: Tensor | None = None) -> Tensor:
        """Return x (B, N, D), having read itself causally or, if given, the `memory` (B, M, D)."""
        query = self.ln_1(x)
        if memory is None:
            hidden = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
            mixed, _ = self.attn(query, query, query, attn_mask=hidden, is_causal=True, need_weights=False)
        else:
            memory = self.ln_1_kv(memory)
            mixed, _ = self.attn(query, memory, memory, key_padding_mask=memory_padding, need_weights=False)
        x = x + mixed
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class MELPDecoder(nn.Module):
    """Vocabulary logits of the word after each word, given the record's caption tokens."""

    def __init__(self, *, vocab: int = 30523, width: int = 768, layers: int = 6, heads: int = PUBLISHED_HEADS) -> None:
        super().__init__()
        self.text_projection = nn.Parameter(torch.empty(width, vocab))
        self.resblocks = nn.ModuleList(DecoderBlock(width, heads, crosses=False) for _ in range(layers))
        self.cross_attn = nn.ModuleList(DecoderBlock(width, heads, crosses=True) for _ in range(layers))
        self.ln_final = nn.LayerNorm(width)
        self._initialise(width, layers)

    def _initialise(self, width: int, layers: int) -> None:
        """Draw weights as CLIP does (Radford et al. 2021): what is added to the residual stream shrinks with depth."""
        added = width**-0.5 * (2 * layers) ** -0.5
        for block in (*self.resblocks, *self.cross_attn):
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=added)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=added)
        nn.init.normal_(self.text_projection, std=width**-0.5)

    def states(self, words: Tensor, record: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return normed states (B, N, D) of `words` (B, N, D); `mask` (B, M) is True where `record` (B, M, D) is real."""
        padding = None if mask is None else ~mask
        x = words
        for over_words, over_record in zip(self.resblocks, self.cross_attn, strict=True):
            x = over_record(over_words(x), record, padding)
        out: Tensor = self.ln_final(x)
        return out

    def forward(self, words: Tensor, record: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return logits (B, N, V); arguments as for `states`."""
        return self.states(words, record, mask) @ self.text_projection


def _options(shapes: Shapes) -> dict[str, Any]:
    width, vocab = shapes.get("text_projection", (0, 0))
    if not vocab:
        raise mb.UserError("this checkpoint has no caption decoder ('text_projection'); wanted a whole MELP checkpoint")
    return {"vocab": vocab, "width": width, "layers": count_blocks(shapes, "resblocks.{}.ln_1.weight")}


FAMILY = mb.Family(
    name="melp-decoder",
    anchor="cross_attn.0.ln_1_kv.weight",
    prefixes=("text_decoder.", ""),
    options=_options,
    elsewhere="belongs to the encoders or the losses, not to the caption decoder",
)
