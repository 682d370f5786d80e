"""HeartLang's ST-ECGFormer: a transformer over heartbeats with embeddings of lead and second.

Paper: Reading Your Heart: Learning ECG Words and Sentences via Pre-training ECG Language Model (Jin et al., ICLR 2025),
    https://arxiv.org/abs/2502.10707
The published code states no licence; this is written from the paper. Parameter names are the published ones.
Shapes: B records, W words, S samples of a word, N tokens, H heads, D channels, K codes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WORDS, WORD_SAMPLES, WIDTH, HEAD_WIDTH = 256, 96, 768, 64
PLACES = 16  # rows of the embeddings of leads and of seconds; row 0 is for filling


class HeartLangAttention(nn.Module):
    """Self-attention behind a normalisation; only the way out has a bias."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * heads * HEAD_WIDTH, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * HEAD_WIDTH, width), nn.Dropout(dropout))
        self.dropout = dropout

    def forward(self, tokens: Tensor) -> Tensor:
        """Return mixed tokens (B, N, D), without the residual."""
        q, k, v = self.to_qkv(self.norm(tokens)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)  # (B, H, N, D / H)
        out: Tensor = self.to_out(mixed.transpose(1, 2).flatten(2))
        return out


class HeartLangFeedForward(nn.Module):
    """Two linear layers behind a normalisation."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, width),
            nn.Dropout(dropout),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens (B, N, D), each changed by itself, without the residual."""
        out: Tensor = self.net(tokens)
        return out


class Transformer(nn.Module):
    """Blocks of attention and feed-forward, each beside a residual."""

    def __init__(self, width: int, depth: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList([HeartLangAttention(width, heads, dropout), HeartLangFeedForward(width, hidden, dropout)])
            for _ in range(depth)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens (B, N, D) that have seen each other."""
        for layer in self.layers:
            for branch in layer.children():
                tokens = tokens + branch(tokens)
        return tokens


class TokenEmbedding(nn.Module):
    """A convolution over three neighbouring words, the last and the first being neighbours."""

    def __init__(self, inner: int, width: int) -> None:
        super().__init__()
        self.tokenConv = nn.Conv1d(inner, width, 3, padding=1, padding_mode="circular", bias=False)

    def forward(self, words: Tensor) -> Tensor:
        """Return (B, W, D) of words (B, W, S)."""
        out: Tensor = self.tokenConv(words.transpose(1, 2)).transpose(1, 2)
        return out


class PlaceEmbedding(nn.Module):
    """A table of places, under the published name."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(PLACES, width)

    def forward(self, places: Tensor) -> Tensor:
        """Return (B, W, D) of places (B, W)."""
        out: Tensor = self.embed(places)
        return out


class STECGFormer(nn.Module):
    """The transformer over a sentence's words, with embeddings of lead and second, and a class token.

    With `vocabulary`, it can also name masked words by their codes, as in pretraining.
    """

    def __init__(
        self,
        *,
        depth: int = 12,
        heads: int = 8,
        hidden: int = 1024,
        inner: int = WORD_SAMPLES,
        vocabulary: int = 0,
        dropout: float = 0.1,
        width: int = WIDTH,
    ) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width), requires_grad=vocabulary > 0)
        self.cls_token = nn.Parameter(torch.randn(width) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, WORDS + 1, width) * 0.02)
        self.token_embed = TokenEmbedding(inner, width)
        self.spa_embed = PlaceEmbedding(width)
        self.tem_embed = PlaceEmbedding(width)
        self.transformer = Transformer(width, depth, heads, hidden, dropout)
        self.norm_layer = nn.LayerNorm(width)
        if vocabulary:
            self.lm_head = nn.Linear(width, vocabulary)

    def forward(
        self, words: Tensor, leads: Tensor | None = None, seconds: Tensor | None = None, masked: Tensor | None = None
    ) -> Tensor:
        """Return states (B, 1 + W, D), the class token first, of words (B, W, S); `masked` (B, W) hides words."""
        x = self.token_embed(words)  # (B, W, D)
        if masked is not None:
            x = torch.where(masked[..., None], self.mask_token, x)
        x = torch.cat([self.cls_token.expand(len(x), 1, -1), x], dim=1) + self.pos_embed
        for places, table in ((leads, self.spa_embed), (seconds, self.tem_embed)):
            if places is not None:
                x = x + F.pad(table(places), (0, 0, 1, 0))  # the class token has no place
        out: Tensor = self.norm_layer(self.transformer(x))
        return out

    def name_masked(self, words: Tensor, leads: Tensor, seconds: Tensor, masked: Tensor) -> Tensor:
        """Return the logits (number of masked words, K) of the codes of masked words, record by record."""
        out: Tensor = self.lm_head(self(words, leads, seconds, masked)[:, 1:][masked])
        return out
