"""Blocks of xLSTM: sLSTM, which remembers channel by channel and mixes within heads, and mLSTM, which remembers in a matrix.

Paper: xLSTM: Extended Long Short-Term Memory (Beck et al., NeurIPS 2024), https://arxiv.org/abs/2405.04517: section 2.2 and
    appendix A.2 (sLSTM), section 2.3 and appendix A.3 (mLSTM, in parallel form), figures 9 and 10 (the blocks).
Code: https://github.com/NX-AI/xlstm (Apache-2.0), from whose files weights come. Written from the paper; parameter names and
what the paper leaves open (widths in multiples of 64, an epsilon, where weights start) are those of that code.
Gates are exponential and kept in range by a running maximum of their logarithms, which cancels.
Shapes: B records, N tokens, D channels, E = 2 D inner channels of an mLSTM, H heads.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNEL = 4  # tokens of the causal convolution before gates, queries and keys
BLOCK = 4  # channels that queries, keys and values are mixed within
MULTIPLE = 64  # of which inner widths are one
FEED_FORWARD = 1.3  # of the width, before it is made a multiple
EPS = 1e-6


def inner_width(width: int, factor: float) -> int:
    """Return `factor` times `width`, made a multiple of 64 from above."""
    return math.ceil(factor * width / MULTIPLE) * MULTIPLE


def small(shape: tuple[int, ...], width: int) -> nn.Parameter:
    """Return weights that start small, of a deviation that `width` gives."""
    return nn.Parameter(math.sqrt(2 / (5 * width)) * torch.randn(shape))


def parted(x: Tensor, parts: int) -> Tensor:
    """Return `x` (..., D) as (..., parts, D / parts)."""
    return x.reshape(*x.shape[:-1], parts, -1)


class HeadNorm(nn.Module):
    """Normalisation of each token within each head, without a bias; the weight is what is above a gain of 1."""

    def __init__(self, width: int, heads: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return normalised tokens (B, N, D)."""
        by_head = parted(x, self.heads)  # (B, N, H, D / H)
        normed: Tensor = F.layer_norm(by_head, by_head.shape[-1:]).flatten(-2)
        return normed * (1 + self.weight)


class BlockLinear(nn.Module):
    """A linear map within each of `blocks` blocks of channels, without a bias."""

    def __init__(self, width: int, blocks: int, start: int) -> None:
        super().__init__()
        self.weight = small((blocks, width // blocks, width // blocks), start)  # (block, out, in)

    def forward(self, x: Tensor) -> Tensor:
        """Return mapped tokens (B, N, D)."""
        return torch.einsum("...bi,boi->...bo", parted(x, len(self.weight)), self.weight).flatten(-2)


class CausalConvolution(nn.Module):
    """A convolution of each channel by itself over a token and the three before it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, KERNEL, padding=KERNEL - 1, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens (B, N, D)."""
        out: Tensor = self.conv(x.transpose(1, 2))[..., : x.shape[1]]
        return out.transpose(1, 2)


class SLSTM(nn.Module):
    """The scalar memory. Gates see the token and the head's last output; there is one memory per channel.

    Names of the two gates are those of the files, in whose code the map `fgate` feeds the input gate and `igate` the forget
    gate whenever a sequence is read at once, as in training.
    """

    def __init__(self, width: int, heads: int, place: float) -> None:
        super().__init__()
        self.heads = heads
        self.conv1d = CausalConvolution(width)
        self.igate, self.fgate, self.zgate, self.ogate = (BlockLinear(width, heads, width) for _ in range(4))
        size = width // heads
        self.recurrent = nn.Parameter(torch.zeros(heads, size, 4 * size))  # (head, in, gate and out)
        bias = torch.zeros(heads, 4, size)  # input, forget, memory, output
        bias[:, 1] = 5 - 12 * torch.linspace(0, 1, size) ** (0.3 + 1.3 * place)
        self.bias = nn.Parameter(bias.flatten())
        self.group_norm = HeadNorm(width, heads)

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens (B, N, D), each made of itself and those before it."""
        near = F.silu(self.conv1d(x))
        gates = torch.stack([self.fgate(near), self.igate(near), self.zgate(x), self.ogate(x)], dim=2)  # (B, N, 4, D)
        out: Tensor = self.group_norm(self.remembered(parted(gates, self.heads)).flatten(-2))
        return out

    def remembered(self, gates: Tensor) -> Tensor:
        """Return the cell's outputs (B, N, H, D / H) for what the tokens give its gates, (B, N, 4, H, D / H)."""
        bias = self.bias.view(self.heads, 4, -1).transpose(0, 1)  # (4, H, D / H)
        hidden = memory = count = torch.zeros_like(gates[:, 0, 0])  # (B, H, D / H)
        highest = torch.full_like(hidden, -torch.inf)
        outputs = []
        for given in gates.unbind(dim=1):
            back = parted((hidden.transpose(0, 1) @ self.recurrent).transpose(0, 1), 4)  # (B, H, 4, D / H)
            entry, keep, value, exit_ = (given + back.transpose(1, 2) + bias).unbind(dim=1)
            keep = F.logsigmoid(keep) + highest
            highest = torch.maximum(entry, keep)
            entry, keep = (entry - highest).exp(), (keep - highest).exp()
            memory, count = keep * memory + entry * value.tanh(), keep * count + entry
            hidden = exit_.sigmoid() * memory / count
            outputs.append(hidden)
        return torch.stack(outputs, dim=1)


class MLSTMCell(nn.Module):
    """The matrix memory: a key's value is added by an exponential gate, forgotten by another, and asked for by a query."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.igate, self.fgate = nn.Linear(3 * width, heads), nn.Linear(3 * width, heads)
        self.outnorm = HeadNorm(width, heads)
        for gate in (self.igate, self.fgate):
            nn.init.zeros_(gate.weight)
        nn.init.normal_(self.igate.bias, std=0.1)
        self.fgate.bias.data.copy_(torch.linspace(3.0, 6.0, heads))

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return normalised answers (B, N, E), each from the tokens up to its own."""
        given = torch.cat([query, key, value], dim=-1)
        entry, keep = self.igate(given).transpose(1, 2), F.logsigmoid(self.fgate(given)).transpose(1, 2)  # (B, H, N)
        q, k, v = (parted(x, self.heads).transpose(1, 2) for x in (query, key, value))  # (B, H, N, E / H)
        kept = keep.cumsum(dim=-1)
        weights = kept[..., :, None] - kept[..., None, :] + entry[..., None, :]  # (B, H, N, N), in logarithms
        weights = weights.masked_fill(torch.ones_like(weights[0, 0]).triu(1).bool(), -torch.inf)
        highest = weights.amax(dim=-1, keepdim=True)
        mixing = (q @ k.transpose(2, 3)) / q.shape[-1] ** 0.5 * (weights - highest).exp()
        norm = torch.maximum(mixing.sum(dim=-1, keepdim=True).abs(), (-highest).exp()) + EPS
        out: Tensor = self.outnorm((mixing / norm @ v).transpose(1, 2).flatten(2))
        return out


class MLSTM(nn.Module):
    """The matrix memory between two linear maps, beside a convolution that skips it, and times a gate of the token."""

    def __init__(self, width: int, heads: int, depth: int) -> None:
        super().__init__()
        inner = inner_width(width, 2)
        self.proj_up, self.proj_down = nn.Linear(width, 2 * inner, bias=False), nn.Linear(inner, width, bias=False)
        self.proj_up.weight = small((2 * inner, width), width)
        nn.init.normal_(self.proj_down.weight, std=2 / depth / math.sqrt(width))
        self.conv1d = CausalConvolution(inner)
        self.q_proj, self.k_proj, self.v_proj = (BlockLinear(inner, inner // BLOCK, width) for _ in range(3))
        self.mlstm_cell = MLSTMCell(inner, heads)
        self.learnable_skip = nn.Parameter(torch.ones(inner))

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens (B, N, D), each made of itself and those before it."""
        inner, gate = self.proj_up(x).chunk(2, dim=-1)  # (B, N, E) each
        near = F.silu(self.conv1d(inner))
        answered = self.mlstm_cell(self.q_proj(near), self.k_proj(near), self.v_proj(inner))
        out: Tensor = self.proj_down((answered + self.learnable_skip * near) * F.silu(gate))
        return out


class GatedFeedForward(nn.Module):
    """Two linear maps of each token by itself, one of them behind a GELU, multiplied and mapped back."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        inner = inner_width(width, FEED_FORWARD)
        self.proj_up, self.proj_down = nn.Linear(width, 2 * inner, bias=False), nn.Linear(inner, width, bias=False)
        self.proj_up.weight = small((2 * inner, width), width)
        nn.init.normal_(self.proj_down.weight, std=2 / depth / math.sqrt(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens (B, N, D)."""
        gate, inner = self.proj_up(x).chunk(2, dim=-1)
        out: Tensor = self.proj_down(F.gelu(gate) * inner)
        return out


class XLSTMBlock(nn.Module):
    """An sLSTM and a feed-forward network, or an mLSTM, each behind a normalisation and beside a residual.

    Args:
        kind: "s" or "m".
        place: where the block stands among `depth`, from 0 to 1; an sLSTM's forget gates start by it.
    """

    def __init__(self, kind: str, width: int, heads: int, place: float, depth: int) -> None:
        super().__init__()
        self.xlstm_norm = HeadNorm(width)
        self.xlstm = SLSTM(width, heads, place) if kind == "s" else MLSTM(width, heads, depth)
        self.ffn_norm = HeadNorm(width) if kind == "s" else None
        self.ffn = GatedFeedForward(width, depth) if kind == "s" else None

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens (B, N, D)."""
        x = x + self.xlstm(self.xlstm_norm(x))
        return x if self.ffn is None or self.ffn_norm is None else x + self.ffn(self.ffn_norm(x))
