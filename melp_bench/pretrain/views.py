"""Views of records: random augmentations for SimCLR, halves for CMSC; batched, on the records' device.

Augmentations follow SimCLR (Chen et al. 2020) and the physiological noises of a recording. None needs to know the scaling of
the signal: amplitudes are relative to a record's own spread, and a masked lead rests at its own median, the isoelectric level
(0 mV in millivolts; after min-max scaling 0 would be the record's minimum).
Shapes: B records, L leads, T samples.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SHORTEST_CROP = 0.8
GAIN = 0.2
NOISE = 0.1
WANDER = 0.2
MASKED_LEADS = 0.2


def augment(signal: Tensor, generator: torch.Generator) -> Tensor:
    """Return another view of `signal` (B, L, T), of the same shape; `generator` lives on the signal's device.

    A crop of 80 to 100 % is stretched to full length; gains, noise and slow baseline wander are added; whole leads are masked.
    """
    view = crop_resize(signal, generator)
    level = view[..., ::4].median(dim=-1, keepdim=True).values  # (B, L, 1)
    spread = view.std(dim=(1, 2), keepdim=True)  # (B, 1, 1)
    gain = 1 + GAIN * (2 * _uniform(view, generator, len(view), 1, 1) - 1)
    view = level + gain * (view - level)
    view = view + NOISE * _uniform(view, generator, len(view), 1, 1) * spread * _normal(view, generator)
    view = view + WANDER * spread * _wander(view, generator)
    return mask_leads(view, level, generator)


def crop_resize(signal: Tensor, generator: torch.Generator) -> Tensor:
    """Return random crops of `signal` (B, L, T), interpolated linearly to its length."""
    batch, leads, samples = signal.shape
    part = SHORTEST_CROP + (1 - SHORTEST_CROP) * _uniform(signal, generator, batch, 1)
    start = (1 - part) * (samples - 1) * _uniform(signal, generator, batch, 1)
    position = start + part * torch.arange(samples, device=signal.device, dtype=part.dtype)  # (B, T)
    position = position.clamp(0, samples - 1)
    before = position.floor().clamp(max=max(samples - 2, 0))
    weight = (position - before).unsqueeze(1).to(signal.dtype)  # (B, 1, T)
    index = before.long().unsqueeze(1).expand(batch, leads, samples)
    left, right = signal.gather(2, index), signal.gather(2, (index + 1).clamp(max=samples - 1))
    return torch.lerp(left, right, weight)


def mask_leads(signal: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
    """Return `signal` (B, L, T) with random leads resting at their `level` (B, L, 1); each record keeps at least one."""
    draw = _uniform(signal, generator, *signal.shape[:2], 1)
    masked = (draw < MASKED_LEADS) & (draw < draw.amax(dim=1, keepdim=True))
    return torch.where(masked, level, signal)


def halves(signal: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two halves of `signal`, each (B, L, T // 2): encoders take signals that are shorter than they ask for."""
    samples = signal.shape[-1] // 2
    return signal[..., :samples], signal[..., samples : 2 * samples]


def _wander(signal: Tensor, generator: torch.Generator) -> Tensor:
    """Return one slow wave of unit amplitude per lead, (B, L, T): up to three cycles in a record, any phase."""
    cycles = 3 * _uniform(signal, generator, len(signal), 1, 1)
    phase = _uniform(signal, generator, *signal.shape[:2], 1)
    time = torch.linspace(0, 1, signal.shape[-1], device=signal.device, dtype=signal.dtype)
    return torch.sin(2 * math.pi * (cycles * time + phase))


def _uniform(like: Tensor, generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator, device=like.device, dtype=like.dtype)


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)
