"""What views measure of a record, and how they draw: amplitudes are relative to it, so that no view needs to know its scaling.

A lead rests at its own median, the isoelectric level (0 mV in millivolts; after min-max scaling 0 would be a record's minimum).
Shapes: B records, L leads, T samples.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

import melp_bench as mb


def level(signal: Tensor) -> Tensor:
    """Return each lead's median (B, L, 1), the lower of two; every fourth sample tells it."""
    few = signal[..., ::4]
    if few.device.type != "cpu" or few.requires_grad or few.dtype == torch.bfloat16:  # which numpy does not know
        median: Tensor = few.median(dim=-1, keepdim=True).values
        return median
    middle = (few.shape[-1] - 1) // 2  # numpy's selection takes an eighth of torch's time
    found: Tensor = torch.from_numpy(np.partition(few.numpy(), middle, axis=-1)[..., middle, None])
    return found


def spread(signal: Tensor) -> Tensor:
    """Return each record's standard deviation (B, 1, 1)."""
    less = signal - signal.mean(dim=(1, 2), keepdim=True)  # `std` itself takes twenty times as long on a CPU
    found: Tensor = torch.linalg.vector_norm(less, dim=(1, 2), keepdim=True) / max(signal[0].numel() - 1, 1) ** 0.5
    return found


def uniform(like: Tensor, generator: torch.Generator, *shape: int) -> Tensor:
    """Return numbers from 0 to 1, on the device and in the precision of `like`."""
    return torch.rand(shape, generator=generator, device=like.device, dtype=like.dtype)


def normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return standard normal numbers of the shape of `like`."""
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def check_between(view: str, option: str, value: float, *, lowest: float = 0.0, highest: float = 1.0) -> None:
    """Go on if an option is in its range.

    Raises:
        UserError: it is not.
    """
    if not lowest <= value <= highest:
        raise mb.UserError(f"option {option!r} of {view!r} is {value}; wanted {lowest:g} to {highest:g}")
