"""Layers that first-party encoders, heads and objectives share.

Shapes: B records, N tokens, Q queries, D channels of the queries, C channels of the tokens, P pooled channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class QueryPool(nn.Module):
    """Learned queries that attend to tokens, then a layer norm: beats out of a token sequence.

    Paper: the attentional pooler of CoCa (Yu et al. 2022), as MELP (Wang et al. 2025) uses it for beats.
    """

    def __init__(self, *, queries: int, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.query = nn.Parameter(0.02 * torch.randn(queries, width))
        self.norm_query, self.norm_context = nn.LayerNorm(width), nn.LayerNorm(context)
        self.attention = nn.MultiheadAttention(width, heads, kdim=context, vdim=context, batch_first=True)
        self.norm_out = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return (B, Q, D) for `tokens` (B, N, C); `mask` (B, N) is True where a token is real."""
        query = self.norm_query(self.query).expand(len(tokens), -1, -1)  # (B, Q, D)
        context = self.norm_context(tokens)
        padding = None if mask is None else ~mask
        pooled, _ = self.attention(query, context, context, key_padding_mask=padding, need_weights=False)
        out: Tensor = self.norm_out(pooled)
        return out


class AttentionPool(nn.Module):
    """A learned token that attends to itself and to every position once: the pool of MERL (Liu et al. 2024).

    As published, the token is given the first positional embedding twice. It costs nothing, since both are learned and only
    their sum is ever seen.
    """

    def __init__(self, positions: int, width: int, heads: int = 4) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(1, positions + 1, width) / width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.mhsa = nn.MultiheadAttention(width, heads, batch_first=True)
        self.c_proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pooled tokens (B, P) and the attention on the N positions, mean over heads, (B, 1, N).

        Fewer tokens than there are positions take the first ones.
        """
        first = (self.cls_token + self.positional_embedding[:, :1]).expand(len(tokens), -1, -1)
        x = torch.cat([first, tokens], dim=1)  # (B, 1 + N, P)
        x = x + self.positional_embedding[:, : x.shape[1]]
        pooled, attention = self.mhsa(x[:, :1], x, x)  # (B, 1, P), (B, 1, 1 + N)
        return self.c_proj(pooled[:, 0]), attention[:, :, 1:]


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean over dim 1 of `values` (B, Q, D) where `mask` (B, Q) is True; zeros where no entry is."""
    if mask is None:
        return values.mean(dim=1)
    weight = mask.to(values.dtype).unsqueeze(-1)
    return (values * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1.0)
