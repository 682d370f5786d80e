"""The pre-norm transformer block that MERL's vision transformers and ST-MEM share, under their published parameter names.

Paper: An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale (Dosovitskiy et al., 2021), whose block both
    papers take over.
Shapes: B records, N tokens, D channels, H heads.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-5


class PreNormAttention(nn.Module):
    """Self-attention with one linear layer for queries, keys and values, in this order."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * heads * head_width)
        self.to_out = nn.Sequential(nn.Linear(heads * head_width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return mixed tokens (B, N, D)."""
        q, k, v = self.to_qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, H, N, D / H)
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.to_out(mixed.transpose(1, 2).flatten(2))  # (B, N, D)
        return out


class PreNormFeedForward(nn.Module):
    """Two linear layers with a GELU between; the identities keep the published numbering, where dropouts stood."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Identity(), nn.Linear(hidden, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens (B, N, D), each changed by itself."""
        out: Tensor = self.net(tokens)
        return out


class PreNorm(nn.Module):
    """A layer normalisation, then `fn`."""

    def __init__(self, width: int, fn: Callable[[Tensor], Tensor], eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=eps)
        self.fn = fn

    def forward(self, tokens: Tensor) -> Tensor:
        """Return `fn` of the normalised tokens, (B, N, D)."""
        return self.fn(self.norm(tokens))


class PreNormBlock(nn.Module):
    """Attention and a feed-forward network, each behind a normalisation and beside a residual."""

    def __init__(self, width: int, heads: int, hidden: int, head_width: int = 64, eps: float = EPS) -> None:
        super().__init__()
        self.attn = PreNorm(width, PreNormAttention(width, heads, head_width), eps)
        self.ff = PreNorm(width, PreNormFeedForward(width, hidden), eps)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens (B, N, D) that have seen each other."""
        tokens = tokens + self.attn(tokens)
        out: Tensor = tokens + self.ff(tokens)
        return out
