"""The vision transformer's block under the names of timm's, which both published ECG-JEPA models share.

Paper: An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale (Dosovitskiy et al., 2021).
Shapes: B records, N tokens, D channels, H heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ViTAttention(nn.Module):
    """Self-attention with one linear layer for queries, keys and values, in this order."""

    def __init__(self, width: int, heads: int, *, qkv_bias: bool, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width, bias=bias)

    def forward(self, tokens: Tensor, sees: Tensor | None) -> Tensor:
        """Return mixed tokens (B, N, D); token i reads token j where `sees` (..., N, N) is True, or everywhere."""
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, H, N, D / H)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=sees)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))  # (B, N, D)
        return out


class ViTFeedForward(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, width: int, hidden: int, *, bias: bool) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden, bias=bias), nn.Linear(hidden, width, bias=bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens (B, N, D), each changed by itself."""
        out: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return out


class ViTBlock(nn.Module):
    """Attention and a feed-forward network four times as wide, each behind a normalisation and beside a residual.

    In training, a residual's branch is left out of a record with the probability `drop_path`.
    """

    def __init__(
        self, width: int, heads: int, *, qkv_bias: bool = False, bias: bool = True, eps: float = 1e-5, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps, bias=bias)
        self.attn = ViTAttention(width, heads, qkv_bias=qkv_bias, bias=bias)
        self.norm2 = nn.LayerNorm(width, eps=eps, bias=bias)
        self.mlp = ViTFeedForward(width, 4 * width, bias=bias)
        self.drop_path: nn.Module = nn.Identity()
        if drop_path:
            from timm.layers.drop import DropPath  # seconds to import, so not before a model that drops is built

            self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor, sees: Tensor | None = None) -> Tensor:
        """Return tokens (B, N, D) that have seen each other, or those that `sees` (..., N, N) says."""
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens), sees))
        out: Tensor = tokens + self.drop_path(self.mlp(self.norm2(tokens)))
        return out


class PlacedBlocks(nn.Module):
    """Blocks before each of which the positions are added again."""

    def __init__(self, width: int, heads: int, depth: int, *, drop_path: float = 0.0) -> None:
        super().__init__()
        rates = torch.linspace(0.0, drop_path, depth, device="cpu").tolist()  # the deeper, the more often
        self.blocks = nn.ModuleList(ViTBlock(width, heads, drop_path=rate) for rate in rates)

    def forward(self, tokens: Tensor, positions: Tensor, sees: Tensor | None = None) -> Tensor:
        """Return tokens (B, N, D); `positions` is (..., N, D), and `sees` (..., N, N)."""
        for block in self.blocks:
            tokens = block(tokens + positions, sees)
        return tokens
