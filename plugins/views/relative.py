"""What views measure of a record, and how they draw: amplitudes are relative to it, so that no view needs to know its scaling.

A lead rests at its own median, the isoelectric level (0 mV in millivolts; after min-max scaling 0 would be a record's minimum).
Shapes: B records, L leads, T samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

import melp_bench as mb


def level(signal: Tensor) -> Tensor:
    """Return each lead's median (B, L, 1); every fourth sample tells it."""
    return signal[..., ::4].median(dim=-1, keepdim=True).values


def spread(signal: Tensor) -> Tensor:
    """Return each record's standard deviation (B, 1, 1)."""
    return signal.std(dim=(1, 2), keepdim=True)


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
