"""Random augmentations of records: crops, gains, noise, baseline wander, leads that fail; and all of them, as SimCLR does.

They follow SimCLR (Chen et al. 2020, https://arxiv.org/abs/2002.05709) and the physiological noises of a recording. None needs
to know the scaling of the signal: amplitudes are relative to a record's own spread, and a lead rests at its own median, the
isoelectric level (0 mV in millivolts; after min-max scaling 0 would be the record's minimum).
Shapes: B records, L leads, T samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

import melp_bench as mb


@dataclass(frozen=True, kw_only=True)
class CropResize(mb.View):
    """A random crop, at least `shortest` of the record, interpolated linearly to its length."""

    shortest: float = 0.8

    def __post_init__(self) -> None:
        _check("crop-resize", "shortest", self.shortest, lowest=0.01)

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Return crops of `signal` (B, L, T)."""
        batch, leads, samples = signal.shape
        part = self.shortest + (1 - self.shortest) * _uniform(signal, generator, batch, 1)
        start = (1 - part) * (samples - 1) * _uniform(signal, generator, batch, 1)
        position = start + part * torch.arange(samples, device=signal.device, dtype=part.dtype)  # (B, T)
        position = position.clamp(0, samples - 1)
        before = position.floor().clamp(max=max(samples - 2, 0))
        weight = (position - before).unsqueeze(1).to(signal.dtype)  # (B, 1, T)
        index = before.long().unsqueeze(1).expand(batch, leads, samples)
        left, right = signal.gather(2, index), signal.gather(2, (index + 1).clamp(max=samples - 1))
        return torch.lerp(left, right, weight)


@dataclass(frozen=True, kw_only=True)
class Gain(mb.View):
    """A gain per record, of 1 - `most` to 1 + `most`, about each lead's own level."""

    most: float = 0.2

    def __post_init__(self) -> None:
        _check("gain", "most", self.most)

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Return `signal` (B, L, T) with other amplitudes."""
        level, gain = _level(signal), 1 + self.most * (2 * _uniform(signal, generator, len(signal), 1, 1) - 1)
        return level + gain * (signal - level)


@dataclass(frozen=True, kw_only=True)
class Noise(mb.View):
    """White noise, in each record of a strength up to `most` of its spread."""

    most: float = 0.1

    def __post_init__(self) -> None:
        _check("noise", "most", self.most)

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Return `signal` (B, L, T) with noise."""
        strength = self.most * _uniform(signal, generator, len(signal), 1, 1) * _spread(signal)
        noise = torch.randn(signal.shape, generator=generator, device=signal.device, dtype=signal.dtype)
        return signal + strength * noise


@dataclass(frozen=True, kw_only=True)
class Wander(mb.View):
    """Slow waves of `strength` of the record's spread: up to three cycles in a record, in each lead of another phase."""

    strength: float = 0.2

    def __post_init__(self) -> None:
        _check("wander", "strength", self.strength)

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Return `signal` (B, L, T) on a wandering baseline."""
        cycles = 3 * _uniform(signal, generator, len(signal), 1, 1)
        phase = _uniform(signal, generator, *signal.shape[:2], 1)
        time = torch.linspace(0, 1, signal.shape[-1], device=signal.device, dtype=signal.dtype)
        return signal + self.strength * _spread(signal) * torch.sin(2 * math.pi * (cycles * time + phase))


@dataclass(frozen=True, kw_only=True)
class MaskLeads(mb.View):
    """Each lead rests at its own level with `probability`; each record keeps at least one."""

    probability: float = 0.2

    def __post_init__(self) -> None:
        _check("mask-leads", "probability", self.probability)

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Return `signal` (B, L, T) with some leads at rest."""
        draw = _uniform(signal, generator, *signal.shape[:2], 1)
        masked = (draw < self.probability) & (draw < draw.amax(dim=1, keepdim=True))
        return torch.where(masked, _level(signal), signal)


def _level(signal: Tensor) -> Tensor:
    """Return each lead's median (B, L, 1); every fourth sample tells it."""
    return signal[..., ::4].median(dim=-1, keepdim=True).values


def _spread(signal: Tensor) -> Tensor:
    """Return each record's standard deviation (B, 1, 1)."""
    return signal.std(dim=(1, 2), keepdim=True)


def _uniform(like: Tensor, generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator, device=like.device, dtype=like.dtype)


def _check(view: str, option: str, value: float, *, lowest: float = 0.0) -> None:
    if not lowest <= value <= 1:
        raise mb.UserError(f"option {option!r} of {view!r} is {value}; wanted {lowest:g} to 1")


AUGMENTATION: tuple[mb.View, ...] = (CropResize(), Gain(), Noise(), Wander(), MaskLeads())
"""What SimCLR and its kin do to a record, in this order."""


@mb.hookimpl
def melp_views() -> list[mb.Entry[mb.View]]:
    """Offer each augmentation."""
    source, license_ = "https://arxiv.org/abs/2002.05709", "MIT"
    return [
        mb.Entry("crop-resize", CropResize, "a random crop, stretched to the record's length", source, license_),
        mb.Entry("gain", Gain, "a random gain per record", source, license_),
        mb.Entry("noise", Noise, "white noise of random strength", source, license_),
        mb.Entry("wander", Wander, "a slowly wandering baseline", source, license_),
        mb.Entry("mask-leads", MaskLeads, "random leads at rest", source, license_),
    ]
