"""Layers that first-party encoders, heads and objectives share.

Shapes: B records, N tokens, Q queries, D channels of the queries, C channels of the tokens, P pooled channels,
H heads, T samples.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.MultiheadAttention):
    """Multi-head attention, batch first, with torch's parameters, and with its numbers but for rounding.

    To train it takes a fifth less time on a CPU, and a third of it where queries are shared.

    Queries, keys and values of one sequence come of one product, whose gradient is put together and not added up from padded
    parts; and queries that all records share meet keys and values that are never made (see `_shared`).
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0, *, context: int | None = None) -> None:
        super().__init__(width, heads, dropout, kdim=context, vdim=context, batch_first=True)

    def forward(  # the arguments are torch's
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return (B, Q, D) for `query` (B, Q, D), or (1, Q, D) for all records, and if asked for the weights, (B, Q, N).

        `key` and `value` are one tensor, (B, N, C); two are torch's affair. Of a mask True, or minus infinity, leaves out.
        """
        if key is not value:
            return super().forward(
                query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )
        hidden = _added(attn_mask, key_padding_mask, query)  # (B | 1, 1, Q | 1, N)
        if len(query) == 1 and query is not key and 2 * self.num_heads * query.shape[1] <= self.embed_dim:
            mixed, weights = self._shared(query[0], key, hidden)
        else:
            q, k, v = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in self._projected(query, key))
            if need_weights:
                weights = _weights(q @ k.transpose(2, 3) / q.shape[-1] ** 0.5, hidden)
                mixed = self._dropped(weights) @ v  # (B, H, Q, D / H)
            else:
                causal = is_causal and key_padding_mask is None
                dropped = self.dropout if self.training else 0.0
                mixed = F.scaled_dot_product_attention(q, k, v, None if causal else hidden, dropped, causal)
        out = self.out_proj(mixed.transpose(1, 2).flatten(2))
        if not need_weights:
            return out, None
        return out, weights.mean(dim=1) if average_attn_weights else weights

    def _projected(self, query: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries (B, Q, D), keys and values (B, N, D) of all heads."""
        if query is context:
            return F.linear(query, self.in_proj_weight, self.in_proj_bias).split(self.embed_dim, dim=-1)  # type: ignore[return-value]
        to_query, to_key, to_value = self._maps()
        biases = (None, None) if self.in_proj_bias is None else self.in_proj_bias.split([self.embed_dim, 2 * self.embed_dim])
        q = F.linear(query, to_query, biases[0]).expand(len(context), -1, -1)
        both = F.linear(context, torch.cat([to_key, to_value]), biases[1])
        return q, *both.split(self.embed_dim, dim=-1)  # type: ignore[return-value]

    def _maps(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return what makes queries (D, D), keys and values (D, C)."""
        if self._qkv_same_embed_dim:
            return self.in_proj_weight.split(self.embed_dim)  # type: ignore[return-value]
        return self.q_proj_weight, self.k_proj_weight, self.v_proj_weight

    def _shared(self, query: Tensor, context: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return (B, H, Q, D / H) and the weights (B, H, Q, N) of queries (Q, D) that meet every record's `context` (B, N, C).

        A key is a linear map of its token, and so is a query's product with it: q (K c) = (q K) c, and of a key's bias, which
        all tokens share, the softmax knows nothing. Weights add up to 1: the values' mean is the map of the tokens' mean.
        """
        to_query, to_key, to_value = (part.unflatten(0, (self.num_heads, -1)) for part in self._maps())  # (H, D / H, C)
        biases = (None, None) if self.in_proj_bias is None else self.in_proj_bias.chunk(3)[::2]
        q = F.linear(query, to_query.flatten(0, 1), biases[0]).unflatten(-1, (self.num_heads, -1)).transpose(0, 1)
        asked = (q @ to_key).flatten(0, 1) / q.shape[-1] ** 0.5  # (H Q, C)
        scores = asked @ context.transpose(1, 2)  # (B, H Q, N)
        weights = _weights(scores.unflatten(1, (self.num_heads, -1)), hidden)
        seen = (self._dropped(weights).flatten(1, 2) @ context).unflatten(1, (self.num_heads, -1))  # (B, H, Q, C)
        mixed = seen.transpose(0, 1).flatten(1, 2) @ to_value.transpose(1, 2)  # (H, B Q, D / H)
        if biases[1] is not None:
            mixed = mixed + biases[1].unflatten(0, (self.num_heads, 1, -1))
        return mixed.unflatten(1, (len(context), -1)).transpose(0, 1), weights

    def _dropped(self, weights: Tensor) -> Tensor:
        return F.dropout(weights, self.dropout, self.training) if self.dropout else weights


def _weights(scores: Tensor, hidden: Tensor | None) -> Tensor:
    return torch.softmax(scores if hidden is None else scores + hidden, dim=-1)


def _added(mask: Tensor | None, padding: Tensor | None, like: Tensor) -> Tensor | None:
    """Return what is added to scores (B, H, Q, N): what `mask` (Q, N) and `padding` (B, N) leave out; None if nothing."""
    found: Tensor | None = None
    for part in (mask, None if padding is None else padding[:, None, None]):
        if part is not None:
            added = like.new_zeros(part.shape).masked_fill(part, float("-inf")) if part.dtype == torch.bool else part
            found = added if found is None else found + added
    return found


class EncoderLayer(nn.TransformerEncoderLayer):
    """A transformer layer with GELU, batch first, as torch has it but for its attention."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float = 0.0, *, norm_first: bool = True) -> None:
        super().__init__(width, heads, hidden, dropout, "gelu", batch_first=True, norm_first=norm_first)
        self.self_attn = Attention(width, heads, dropout)


def convolve(layer: nn.Conv1d, x: Tensor) -> Tensor:
    """Return a layer's convolution of `x` (B, C, 1, T), which lies in memory sample by sample (channels last).

    So a CPU takes a quarter less time than for (B, C, T), the batch norm behind it half, and tokens need no transposed copy.
    """
    weight = layer.weight[:, :, None].contiguous(memory_format=torch.channels_last)
    stride, padding, dilation = layer.stride[0], layer.padding[0], layer.dilation[0]
    return F.conv2d(x, weight, layer.bias, (1, stride), (0, int(padding)), (1, dilation), layer.groups)


def sample_by_sample(signal: Tensor) -> Tensor:
    """Return `signal` (B, L, T) as `convolve` takes it, (B, L, 1, T)."""
    return signal[:, :, None].contiguous(memory_format=torch.channels_last)


class QueryPool(nn.Module):
    """Learned queries that attend to tokens, then a layer norm: beats out of a token sequence.

    Paper: the attentional pooler of CoCa (Yu et al. 2022), as MELP (Wang et al. 2025) uses it for beats.
    """

    def __init__(self, *, queries: int, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.query = nn.Parameter(0.02 * torch.randn(queries, width))
        self.norm_query, self.norm_context = nn.LayerNorm(width), nn.LayerNorm(context)
        self.attention = Attention(width, heads, context=context)
        self.norm_out = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return (B, Q, D) for `tokens` (B, N, C); `mask` (B, N) is True where a token is real."""
        query = self.norm_query(self.query)[None]  # (1, Q, D)
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
        self.mhsa = Attention(width, heads)
        self.c_proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pooled tokens (B, P) and the attention on the N positions, mean over heads, (B, 1, N).

        Fewer tokens than there are positions take the first ones.
        """
        first = self.cls_token + 2 * self.positional_embedding[:, :1]  # (1, 1, P)
        placed = tokens + self.positional_embedding[:, 1 : 1 + tokens.shape[1]]
        x = torch.cat([first.expand(len(tokens), -1, -1), placed], dim=1)  # (B, 1 + N, P)
        pooled, attention = self.mhsa(first, x, x)  # (B, 1, P), (B, 1, 1 + N)
        return self.c_proj(pooled[:, 0]), attention[:, :, 1:]


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean over dim 1 of `values` (B, Q, D) where `mask` (B, Q) is True; zeros where no entry is."""
    if mask is None:
        return values.mean(dim=1)
    weight = mask.to(values.dtype).unsqueeze(-1)
    return (values * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1.0)
