"""Weights, gradients and the optimiser's state spread over ranks (FSDP2), and brought together where they are written.

Paper: PyTorch FSDP, Zhao et al. 2023, https://arxiv.org/abs/2304.11277; in the form of torch's `fully_shard`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.optim.swa_utils import get_ema_avg_fn

from melp_bench.pretrain.layers import layers_of, towers_of
from melp_bench.pretrain.step import Step

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
MOVED = StateDictOptions(full_state_dict=True, cpu_offload=True, strict=False)
"""Of an optimiser: a parameter that no objective reaches has no state."""


def shard(step: Step, mesh: DeviceMesh) -> Step:
    """Shard a step over the ranks of `mesh`, each layer of the encoders by itself and the rest together, and return it.

    Scalars (a learned scale) are too small to share: every rank has its own copy, and their gradients are averaged.
    """
    ranks, scalars = mesh["data_parallel"], {parameter for parameter in step.parameters() if parameter.ndim == 0}
    if step.average is not None:  # tensors that are spread and such that are not do not go into one list
        step.average.multi_avg_fn, step.average.avg_fn = None, get_ema_avg_fn(step.ema)  # type: ignore[no-untyped-call]
    for tower in towers_of(step.model).values():
        for layer in layers_of(tower).values():
            fully_shard(layer, mesh=ranks)
    return cast("Step", fully_shard(step, mesh=ranks, ignored_params=scalars))


def is_sharded(module: nn.Module) -> bool:
    """Return whether the module's parameters are spread over ranks."""
    return isinstance(module, FSDPModule)


def whole_state(module: nn.Module, optimizer: torch.optim.Optimizer | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the weights and the optimiser's state, whole, on the first rank; on all ranks, where nothing is sharded."""
    if not is_sharded(module):
        return module.state_dict(), {} if optimizer is None else optimizer.state_dict()
    weights = get_model_state_dict(module, options=WHOLE)  # first: it takes back what a validation has brought together
    moved = {} if optimizer is None else get_optimizer_state_dict(module, bare(optimizer), options=MOVED)
    return weights, cast("dict[str, Any]", moved)


def load_whole_state(
    module: nn.Module, weights: dict[str, Any], optimizer: torch.optim.Optimizer | None, moved: dict[str, Any]
) -> None:
    """Load whole weights, strictly, and an optimiser's state, which every rank has read; each keeps its part.

    Raises:
        RuntimeError: they are of another model.
    """
    if not is_sharded(module):
        module.load_state_dict(weights, strict=True)
        if optimizer is not None:
            optimizer.load_state_dict(moved)
        return
    set_model_state_dict(module, weights, options=WHOLE)
    if optimizer is not None:
        set_optimizer_state_dict(module, bare(optimizer), moved, options=MOVED)


def bare(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return torch's optimiser out of what Fabric has wrapped around it."""
    return cast("torch.optim.Optimizer", getattr(optimizer, "optimizer", optimizer))


def gradient_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return the norm of all gradients together."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    spread = [gradient for gradient in gradients if isinstance(gradient, DTensor)]
    if not spread:
        return torch.nn.utils.get_total_norm(gradients)
    copied = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
    norms = [whole(torch.nn.utils.get_total_norm(part)) for part in (spread, copied) if part]
    together: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return together


def cut_gradient(parameters: Sequence[nn.Parameter], longest: float, norm: Tensor) -> None:
    """Cut all gradients, whose norm together is `norm`, to a norm of `longest`."""
    for part in apart(parameters):
        torch.nn.utils.clip_grads_with_norm_(part, longest, norm)


def apart(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Return the parameters that are spread over ranks, and those that are copied: no operation takes both in one list."""
    parts: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for parameter in parameters:
        parts[not isinstance(parameter, DTensor)].append(parameter)
    return [part for part in parts if part]


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor that is spread over ranks as one; any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
