"""Contrasts of paired vectors: InfoNCE, NT-Xent and the sigmoid loss, which objectives of every scale share.

Up to `WHOLE` vectors all logits are made at once. Of more, loss and gradient are made tile by tile in the same two buffers, and
logits again in the backward pass: exact, no slower from there on, and with memory that is linear in the vectors.
Shapes: B pairs, N and M vectors of two sides, D channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

import melp_bench as mb

INITIAL_LOG_SCALE = math.log(1 / 0.07)
MAXIMUM_LOG_SCALE = math.log(100.0)
WHOLE = 2048
TILE = 1024


def info_nce(x: Tensor, y: Tensor, *, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return both directions' cross entropies of products of x and y (B, D) over the temperature; x_i belongs to y_i."""
    if len(x) <= WHOLE:
        return symmetric_info_nce(x @ y.T / temperature)
    x = x / temperature
    rows, columns = _LogSums.apply(x, y, False)
    own = (x * y).sum(dim=-1)
    return (rows - own).mean(), (columns - own).mean()


def symmetric_info_nce(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return both directions' cross entropies of `logits` (B, B), in which row i belongs to column i.

    Paper: van den Oord et al. 2018; both directions as in CLIP (Radford et al. 2021).
    """
    target = torch.arange(len(logits), device=logits.device)
    return F.cross_entropy(logits, target), F.cross_entropy(logits.T, target)


def view_contrast(z: Tensor, *, temperature: float) -> Tensor:
    """Return the cross entropy with which each of z (2B, D), two views one after the other, finds the other of its record.

    Paper: NT-Xent, Chen et al. 2020 (SimCLR).
    """
    half = len(z) // 2
    if len(z) > WHOLE:
        scaled = z / temperature
        rows, _ = _LogSums.apply(scaled, z, True)
        loss: Tensor = (rows - (scaled * z.roll(half, 0)).sum(dim=-1)).mean()
        return loss
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    logits = (z @ z.T / temperature).masked_fill(itself, float("-inf"))
    return F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(half))


def sigmoid_contrast(x: Tensor, y: Tensor, bias: Tensor) -> Tensor:
    """Return -ln sigmoid of each x_i's logit with y_i, and of minus that with each other, summed; a logit is x_i y_j + bias.

    Paper: Zhai et al. 2023 (SigLIP).
    """
    if len(x) > WHOLE:
        ones = torch.ones_like(x[:, :1])
        biased: Tensor = _SoftplusSum.apply(torch.cat([x, bias * ones], dim=1), torch.cat([y, ones], dim=1))
        return biased - ((x * y).sum(dim=-1) + bias).sum()  # -ln sigmoid(l) = softplus(l) - l
    logits = x @ y.T + bias  # (B, B)
    sign = 2 * torch.eye(len(x), dtype=logits.dtype, device=logits.device) - 1
    return -F.logsigmoid(sign * logits).sum()


def temperature_gauge(log_scale: Tensor) -> mb.Gauge:
    """Return the temperature of a learned scale, held within [1 / 100, 1]."""
    scale = float(log_scale.detach().clamp(0.0, MAXIMUM_LOG_SCALE))
    return mb.Gauge(math.exp(-scale), math.exp(-MAXIMUM_LOG_SCALE), 1.0)


def at_least_float32(value: Tensor) -> Tensor:
    """Return `value` in float32, or as it is where it is wider: exponentials are not taken in half precision."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


# -------------------------------------------------------------------------------------------------------------- in tiles


class _LogSums(torch.autograd.Function):
    """ln sum exp of the products of x (N, D) and y (M, D), by row (N,) and column (M,).

    `of_itself` leaves the diagonal out, and the columns, which are then the rows.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, of_itself: bool) -> tuple[Tensor, Tensor]:
        rows, columns = (x.new_full((len(side),), float("-inf")) for side in (x, y))
        for here, there, logits, spare in _tiles(x, y):
            if of_itself and here == there:
                logits.fill_diagonal_(float("-inf"))
            _add_log_sums(rows[here], logits, spare, dim=1)
            if not of_itself:
                _add_log_sums(columns[there], logits, spare, dim=0)
        ctx.save_for_backward(x, y, rows, columns)
        ctx.of_itself = of_itself
        return rows, columns

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_rows: Tensor, of_columns: Tensor) -> tuple[Tensor, Tensor, None]:
        x, y, rows, columns = ctx.saved_tensors
        dx, dy = torch.zeros_like(x), torch.zeros_like(y)
        for here, there, logits, spare in _tiles(x, y):
            if ctx.of_itself and here == there:
                logits.fill_diagonal_(float("-inf"))
            torch.sub(logits, rows[here, None], out=spare).exp_().mul_(of_rows[here, None])
            if not ctx.of_itself:
                spare += logits.sub_(columns[there]).exp_().mul_(of_columns[there])
            dx[here].addmm_(spare, y[there])
            dy[there].addmm_(spare.T, x[here])
        return dx, dy, None


class _SoftplusSum(torch.autograd.Function):
    """The sum of softplus over the products of x (N, D) and y (M, D)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        total = x.new_zeros(())
        for _, _, logits, spare in _tiles(x, y):
            torch.abs(logits, out=spare).neg_().exp_().log1p_()
            total += spare.add_(logits.clamp_min_(0)).sum()
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_sum: Tensor) -> tuple[Tensor, Tensor]:
        x, y = ctx.saved_tensors
        dx, dy = torch.zeros_like(x), torch.zeros_like(y)
        for here, there, logits, _ in _tiles(x, y):
            logits.sigmoid_().mul_(of_sum)
            dx[here].addmm_(logits, y[there])
            dy[there].addmm_(logits.T, x[here])
        return dx, dy


def _tiles(x: Tensor, y: Tensor) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
    """Yield rows, columns, their products, and a tensor of that shape to write to; the next tile overwrites both."""
    products, spare = x.new_empty(TILE * TILE), x.new_empty(TILE * TILE)
    for top in range(0, len(x), TILE):
        for left in range(0, len(y), TILE):
            here, there = slice(top, min(top + TILE, len(x))), slice(left, min(left + TILE, len(y)))
            shape = (here.stop - top, there.stop - left)
            tile, other = (buffer[: math.prod(shape)].view(shape) for buffer in (products, spare))
            torch.mm(x[here], y[there].T, out=tile)
            yield here, there, tile, other


def _add_log_sums(sums: Tensor, logits: Tensor, spare: Tensor, *, dim: int) -> None:
    """Add a tile's exponentials along `dim` to `sums`, all as logarithms."""
    most = logits.amax(dim=dim, keepdim=True).clamp_min(torch.finfo(logits.dtype).min)  # all may be -inf
    found = torch.sub(logits, most, out=spare).exp_().sum(dim=dim).log_().add_(most.squeeze(dim))
    torch.logaddexp(sums, found, out=sums)
