"""What happens to the time of a record: crops, warps, stretches and beats at rest, parts in another order.

Crops are SimCLR's (Chen et al. 2020, https://arxiv.org/abs/2002.05709), permutation is that of TS-TCC (Eldele et al. 2021,
https://arxiv.org/abs/2106.14112), time-out and the rest as they are used on ECGs by Raghu et al. 2022
(https://arxiv.org/abs/2204.04360) and Soltanieh et al. 2022 (https://arxiv.org/abs/2206.07656).
Shapes: B records, L leads, T samples, S segments, K beats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

import melp_bench as mb
from melp_plugins.views.relative import check_between, level, uniform

WAVES = 3  # of which a warp is made
SMOOTHED_SECONDS, APART_SECONDS = 0.08, 0.25
"""A beat is where the slopes of all leads, averaged over the first, are largest within the second to both sides."""
OF_LARGEST = 0.3  # a beat's slopes are at least so much of the record's largest


def sampled_at(signal: Tensor, position: Tensor) -> Tensor:
    """Return `signal` (B, L, T) interpolated linearly at `position` (B, T), in samples."""
    batch, leads, samples = signal.shape
    position = position.clamp(0, samples - 1)
    before = position.floor().clamp(max=max(samples - 2, 0))
    weight = (position - before).unsqueeze(1).to(signal.dtype)  # (B, 1, T)
    index = before.long().unsqueeze(1).expand(batch, leads, samples)
    left, right = signal.gather(2, index), signal.gather(2, (index + 1).clamp(max=samples - 1))
    return torch.lerp(left, right, weight)


@dataclass(frozen=True, kw_only=True)
class CropResize(mb.View):
    """A random crop, at least `shortest` of the record, interpolated linearly to its length."""

    shortest: float = 0.8

    def __post_init__(self) -> None:
        check_between("crop-resize", "shortest", self.shortest, lowest=0.01)

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Return crops of `signal` (B, L, T)."""
        batch, _, samples = signal.shape
        part = self.shortest + (1 - self.shortest) * uniform(signal, generator, batch, 1)
        start = (1 - part) * (samples - 1) * uniform(signal, generator, batch, 1)
        return sampled_at(signal, start + part * torch.arange(samples, device=signal.device, dtype=part.dtype))


@dataclass(frozen=True, kw_only=True)
class TimeWarp(mb.View):
    """Time that runs faster here and slower there, by at most `strength`; a record begins and ends where it did."""

    strength: float = 0.1

    def __post_init__(self) -> None:
        check_between("time-warp", "strength", self.strength, highest=0.9)

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Return `signal` (B, L, T) on another time."""
        batch, _, samples = signal.shape
        time = torch.linspace(0, 1, samples, device=signal.device, dtype=signal.dtype)  # (T,)
        speeds = self.strength / WAVES * (2 * uniform(signal, generator, batch, WAVES) - 1)  # of each wave, at most
        turns = math.pi * torch.arange(1, WAVES + 1, device=signal.device, dtype=signal.dtype)
        moved = (speeds / turns) @ torch.sin(turns[:, None] * time)  # (B, T), of slope at most `strength`
        return sampled_at(signal, (time + moved) * (samples - 1))


@dataclass(frozen=True, kw_only=True)
class TimeOut(mb.View):
    """A stretch, in each record of up to `longest` of it, in which all leads rest at their levels."""

    longest: float = 0.2

    def __post_init__(self) -> None:
        check_between("time-out", "longest", self.longest)

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Return `signal` (B, L, T) with a stretch at rest."""
        batch, _, samples = signal.shape
        length = self.longest * samples * uniform(signal, generator, batch, 1, 1)
        start = (samples - length) * uniform(signal, generator, batch, 1, 1)
        time = torch.arange(samples, device=signal.device)
        out = (time >= start) & (time < start + length)  # (B, 1, T)
        return torch.lerp(signal, level(signal), out.to(signal.dtype))  # exact at 0 and at 1, and faster than a choice


@dataclass(frozen=True, kw_only=True)
class Permutation(mb.View):
    """A record cut at random places into 1 to `segments` parts, which are put together in a random order."""

    segments: int = 5

    def __post_init__(self) -> None:
        check_between("permutation", "segments", self.segments, lowest=1, highest=1000)

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Return `signal` (B, L, T) in another order."""
        batch, leads, samples = signal.shape
        count = (uniform(signal, generator, batch, 1) * self.segments).floor()  # of cuts, 0 to S - 1
        cuts = uniform(signal, generator, batch, self.segments) * samples  # (B, S)
        cuts = torch.where(torch.arange(self.segments, device=signal.device) < count, cuts, math.inf)
        time = torch.arange(samples, device=signal.device)
        segment = (time[None, :, None] >= cuts[:, None]).sum(dim=-1)  # (B, T)
        place = uniform(signal, generator, batch, self.segments).argsort(dim=1)  # (B, S), of each segment
        order = (place.gather(1, segment) * samples + time).argsort(dim=1)  # (B, T)
        return signal.gather(2, order.unsqueeze(1).expand(batch, leads, samples))


@dataclass(frozen=True, kw_only=True)
class BeatCutOut(mb.View):
    """`beats` beats of each record, drawn at random, in place of which all leads rest: from before P to after T.

    Beats are found where the slopes of all leads together are largest; a record that has fewer loses all of them.
    """

    beats: int = 1
    before_seconds: float = 0.25
    after_seconds: float = 0.4
    rate_hz: float = 500.0

    def __post_init__(self) -> None:
        check_between("beat-cut-out", "beats", self.beats, highest=100)
        check_between("beat-cut-out", "before_seconds", self.before_seconds, highest=2.0)
        check_between("beat-cut-out", "after_seconds", self.after_seconds, highest=2.0)

    def at(self, spec: mb.SignalSpec) -> BeatCutOut:
        """Return the view for records of the rate of `spec`."""
        return replace(self, rate_hz=spec.rate_hz)

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Return `signal` (B, L, T) without some beats."""
        found = self.found(signal)  # (B, T)
        drawn = torch.where(found, uniform(signal, generator, *found.shape), -1.0)
        chosen = drawn.topk(min(self.beats, signal.shape[-1]), dim=1)  # (B, K)
        centre = torch.where(chosen.values >= 0, chosen.indices, -math.inf)[..., None]  # (B, K, 1)
        time = torch.arange(signal.shape[-1], device=signal.device)
        begin, end = centre - self.before_seconds * self.rate_hz, centre + self.after_seconds * self.rate_hz
        gone = ((time >= begin) & (time <= end)).any(dim=1, keepdim=True)  # (B, 1, T)
        return torch.where(gone, level(signal), signal)

    def found(self, signal: Tensor) -> Tensor:
        """Return where the beats of `signal` (B, L, T) are, (B, T): True at one sample of each."""
        slope = F.pad(signal.diff(dim=-1).abs().sum(dim=1, keepdim=True), (0, 1))  # (B, 1, T)
        smooth = 2 * round(SMOOTHED_SECONDS * self.rate_hz / 2) + 1
        slope = F.avg_pool1d(slope, smooth, stride=1, padding=smooth // 2)
        apart = 2 * round(APART_SECONDS * self.rate_hz) + 1
        highest = F.max_pool1d(slope, apart, stride=1, padding=apart // 2)
        peak = (slope == highest) & (slope > 0) & (slope >= OF_LARGEST * slope.amax(dim=-1, keepdim=True))
        first = peak & ~F.pad(peak[..., :-1], (1, 0))  # of a plateau, its first sample
        return first.squeeze(1)


def beat_cut_out(*, beats: int = 1, before_seconds: float = 0.25, after_seconds: float = 0.4) -> BeatCutOut:
    """Return the view that takes `beats` beats out of each record."""
    return BeatCutOut(beats=beats, before_seconds=before_seconds, after_seconds=after_seconds)


@mb.hookimpl
def melp_views() -> list[mb.Entry[mb.View]]:
    """Offer each change of time."""
    crops, parts, used, license_ = (
        "https://arxiv.org/abs/2002.05709",
        "https://arxiv.org/abs/2106.14112",
        "https://arxiv.org/abs/2206.07656",
        "MIT",
    )
    return [
        mb.Entry("crop-resize", CropResize, "a random crop, stretched to the record's length", crops, license_),
        mb.Entry("time-warp", TimeWarp, "time that runs faster here and slower there", used, license_),
        mb.Entry("time-out", TimeOut, "a random stretch at rest", used, license_),
        mb.Entry("permutation", Permutation, "parts of the record in a random order", parts, license_),
        mb.Entry("beat-cut-out", beat_cut_out, "random beats at rest, from P to T", "this project", license_),
    ]
