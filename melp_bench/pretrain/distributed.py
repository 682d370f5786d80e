"""What training on several ranks asks for: equal shares, features of all ranks, means over all ranks.

Shapes: B records of a rank, W ranks, N entries of a ragged dimension (words, sentences).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn import functional as F

from melp_bench.errors import UserError
from melp_bench.pretrain.gathered import Gather

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def share(batch_size: int, world_size: int, num_records: int) -> int:
    """Return the batch of one rank.

    Raises:
        UserError: the batch does not divide over the ranks, or there are fewer records than one batch holds.
    """
    if batch_size % world_size:
        raise UserError(f"a batch of {batch_size} does not divide over {world_size} ranks; choose a multiple")
    if num_records < batch_size:
        raise UserError(f"{num_records} training records are fewer than one batch of {batch_size}; choose a smaller batch")
    return batch_size // world_size


def gather_over(fabric: Fabric) -> Gather | None:
    """Return the function that joins a tensor over ranks along the batch, with gradient; None on one rank.

    A tensor (B, N, ...) whose N differs between ranks is padded with zeros to the longest first. Row i of rank r comes to
    row i * W + r, which is the order that one rank would read the batch in.
    """
    if fabric.world_size == 1:
        return None

    def gather(tensor: Tensor) -> Tensor:
        if tensor.ndim > 1:
            tensor = _padded(tensor, fabric)
        joined = fabric.all_gather(tensor, sync_grads=tensor.is_floating_point())  # (W, B, ...)
        assembled: Tensor = joined.transpose(0, 1).flatten(0, 1)  # type: ignore[union-attr]
        return assembled  # (B * W, ...)

    return gather


def average_gradients(module: nn.Module, fabric: Fabric) -> None:
    """Make each gradient the mean over ranks, as DDP does in a backward pass; what no rank has a gradient of stays without.

    What is spread over ranks (FSDP2) was averaged on its way.
    """
    trained = [p for p in module.parameters() if p.requires_grad and not isinstance(p, DTensor)]
    if fabric.world_size == 1 or not trained:
        return
    anywhere = torch.tensor([float(p.grad is not None) for p in trained], device=fabric.device)
    fabric.all_reduce(anywhere, reduce_op="max")
    for parameter in (p for p, found in zip(trained, anywhere.tolist(), strict=True) if found):
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        fabric.all_reduce(parameter.grad, reduce_op="mean")


def _padded(tensor: Tensor, fabric: Fabric) -> Tensor:
    """Return `tensor` (B, N, ...) with the N of the rank that has most."""
    longest = torch.tensor(tensor.shape[1], device=tensor.device)
    fabric.all_reduce(longest, reduce_op="max")
    missing = int(longest) - tensor.shape[1]
    return F.pad(tensor, [0, 0] * (tensor.ndim - 2) + [0, missing]) if missing else tensor


def total_loss(
    terms: Mapping[str, tuple[Tensor, Tensor]], weights: Mapping[str, float], fabric: Fabric
) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted sum to go backward on, and every term as the mean over all that all ranks count.

    Gradients are averaged over ranks; a term is therefore scaled by the rank's part of what is counted.
    """
    names, total, means = list(terms), torch.zeros((), device=fabric.device), []
    for name in names:
        mean, count = terms[name]
        if fabric.world_size > 1:
            everywhere = count.detach().clone()
            fabric.all_reduce(everywhere, reduce_op="mean")
            mean = mean * (count / everywhere.clamp_min(torch.finfo(everywhere.dtype).tiny))
        total = total + weights[name] * mean
        means.append(mean.detach().float())
    stacked = torch.stack(means)
    if fabric.world_size > 1:
        fabric.all_reduce(stacked, reduce_op="mean")
    return total, dict(zip(names, stacked.tolist(), strict=True))
