"""A model under test is frozen: what it was before an evaluation it is afterwards, bit by bit."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def freeze(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the weights and buffers of `model`, which is put in eval mode and asks for no gradient."""
    model.eval().requires_grad_(False)
    return {name: tensor.detach().clone() for name, tensor in _tensors(model).items()}


def changes(model: nn.Module, before: dict[str, Tensor]) -> list[str]:
    """Return what is no longer as `freeze` left it: names of tensors, of modules that train, of weights that want gradients."""
    now = _tensors(model)
    found = [name for name in before if name not in now or not _same_bits(before[name], now[name])]
    found += [name for name in now if name not in before]
    found += [f"{name or 'the model'} (in training mode)" for name, module in model.named_modules() if module.training]
    return found + [f"{name} (asks for a gradient)" for name, weight in model.named_parameters() if weight.requires_grad]


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _same_bits(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(*(t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (one, other)))
