"""How features are compared, and what every kind of module is asked.

Shapes: B records or reports, D channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

from melp_bench.features import Features
from melp_bench.testing.verdict import Broken, demand

TOLERANCE = 1e-4
"""Largest difference allowed, in units of the features' own largest magnitude; float32 in other batch sizes needs some."""

MASK_OF = {"segments": "segments_mask", "tokens": "tokens_mask", "token_ids": "tokens_mask"}
M = TypeVar("M", bound=nn.Module)


def real_values(features: Features, row: int) -> dict[str, Tensor]:
    """Return the tensors of one record without what lies under a mask, so that padding of other lengths compares equal."""
    found: dict[str, Tensor] = {}
    for name, tensor in features.present().items():
        if name.endswith("_mask"):
            continue
        mask = getattr(features, MASK_OF[name]) if name in MASK_OF else None
        found[name] = tensor[row] if mask is None else tensor[row][mask[row]]
    return found


def demand_equal(one: Features, row: int, other: Features, other_row: int, when: str) -> float:
    """Return the largest relative difference between two records' features.

    Raises:
        Broken: it exceeds `TOLERANCE`, or shapes differ.
    """
    worst = 0.0
    left, right = real_values(one, row), real_values(other, other_row)
    demand(left.keys() == right.keys(), f"{when}: offers {sorted(left)} once and {sorted(right)} the other time")
    for name, a in left.items():
        b = right[name]
        demand(a.shape == b.shape, f"{when}: {name} is {tuple(a.shape)} once and {tuple(b.shape)} the other time")
        if a.numel() == 0:
            continue
        difference = (a.double() - b.double()).abs().max().item() / max(a.double().abs().max().item(), 1e-6)
        demand(difference <= TOLERANCE, f"{when}: {name} moves by {difference:.2g} of its magnitude; allowed {TOLERANCE:g}")
        worst = max(worst, difference)
    return worst


def demand_same(one: Features, two: Features, when: str) -> float:
    """Return the largest relative difference between two batches' features, record by record.

    Raises:
        Broken: it exceeds `TOLERANCE`, or shapes differ.
    """
    return max(demand_equal(one, row, two, row, when) for row in range(len(one.record)))


def under_two_seeds(forward: Callable[[], Features]) -> tuple[Features, Features]:
    """Return what `forward` gives under one seed and under another; the caller's own randomness is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        one = forward()
        torch.manual_seed(2)
        return one, forward()


def demand_finite(features: Features, when: str) -> None:
    """Go on if every real value is finite.

    Raises:
        Broken: names the first tensor that is not.
    """
    for name, tensor in features.present().items():
        if tensor.is_floating_point():
            bad = int((~torch.isfinite(tensor)).sum())
            demand(bad == 0, f"{when}: {bad} of {tensor.numel()} values of {name} are not finite")


def demand_masks(features: Features, *, at_least_one: bool) -> None:
    """Go on if masks are boolean and fit; with `at_least_one`, no record is masked away altogether.

    Raises:
        Broken: a mask is missing shape, type or a real entry.
    """
    for name in ("segments", "tokens"):
        tensor, mask = getattr(features, name), getattr(features, f"{name}_mask")
        if tensor is None or mask is None:
            continue
        demand(mask.dtype == torch.bool, f"{name}_mask is {mask.dtype}; wanted torch.bool")
        demand(mask.shape == tensor.shape[:2], f"{name}_mask is {tuple(mask.shape)}; {name} is {tuple(tensor.shape)}")
        if at_least_one:
            empty = (~mask.any(dim=1)).nonzero().flatten().tolist()
            demand(not empty, f"{name}_mask is False everywhere for records {empty}")


def demand_widths(features: Features, wanted: dict[str, tuple[int, ...]]) -> str:
    """Return the shapes as text. A wanted size of -1 is free.

    Raises:
        Broken: a tensor is missing or has another shape.
    """
    seen = []
    for name, shape in wanted.items():
        tensor = getattr(features, name)
        demand(tensor is not None, f"Features.{name} is None; wanted {shape}")
        fits = tensor.dim() == len(shape) and all(w in (-1, s) for w, s in zip(shape, tensor.shape, strict=True))
        demand(fits, f"Features.{name} is {tuple(tensor.shape)}; wanted {shape}")
        demand(tensor.is_floating_point(), f"Features.{name} is {tensor.dtype}; wanted floating point")
        seen.append(f"{name} {tuple(tensor.shape)}")
    return ", ".join(seen)


def projected_sum(features: Features) -> Tensor:
    """Return a scalar that every real feature enters with its own fixed random weight."""
    generator = torch.Generator().manual_seed(1)
    total = features.record.new_zeros(())
    for name, tensor in features.present().items():
        if not tensor.is_floating_point():
            continue
        weight = torch.randn(tensor.shape, generator=generator).to(tensor)
        mask = getattr(features, MASK_OF[name]) if name in MASK_OF else None
        total = total + (tensor * weight * (1.0 if mask is None else mask.unsqueeze(-1))).sum()
    return total


def demand_all_used(module: nn.Module) -> str:
    """Return how many parameters the last backward pass reached.

    Raises:
        Broken: names those it did not reach, or whose gradient is not finite.
    """
    trainable = {n: p for n, p in module.named_parameters() if p.requires_grad}
    unused = [n for n, p in trainable.items() if p.grad is None]
    demand(not unused, f"no gradient reaches {len(unused)} of {len(trainable)} parameters: {', '.join(unused[:4])}")
    wild = [n for n, p in trainable.items() if p.grad is not None and not torch.isfinite(p.grad).all()]
    demand(not wild, f"the gradient of {', '.join(wild[:4])} is not finite")
    return f"{len(trainable)} parameter tensors reached"


def round_trip(module: M, rebuild: Callable[[], M]) -> M:
    """Return a second module with the first one's weights, which travelled through safetensors and were loaded strictly."""
    state = {name: tensor.detach().clone().contiguous() for name, tensor in module.state_dict().items()}
    bad = [name for name, tensor in state.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()]
    demand(not bad, f"the weights {', '.join(bad[:4])} are not finite as built")
    other = rebuild()
    try:
        other.load_state_dict(safetensors.torch.load(safetensors.torch.save(state)), strict=True)
    except RuntimeError as error:
        raise Broken(f"a second build does not take the weights of the first: {' '.join(str(error).split())}") from error
    return other.eval()
