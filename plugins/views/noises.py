"""What disturbs a recording: another gain, white noise, a wandering baseline, the mains, muscles; amplitudes as in `relative`.

They follow the noises of a recording as the literature on ECG filters lists them (Friesen et al. 1990,
https://doi.org/10.1109/10.43620), and jitter TS-TCC (Eldele et al. 2021, https://arxiv.org/abs/2106.14112).
Shapes: B records, L leads, T samples, F frequencies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

import melp_bench as mb
from melp_plugins.views.relative import check_between, level, normal, spread, uniform


@dataclass(frozen=True, kw_only=True)
class Gain(mb.View):
    """A gain per record, of 1 - `most` to 1 + `most`, about each lead's own level."""

    most: float = 0.2

    def __post_init__(self) -> None:
        check_between("gain", "most", self.most)

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Return `signal` (B, L, T) with other amplitudes."""
        rest, gain = level(signal), 1 + self.most * (2 * uniform(signal, generator, len(signal), 1, 1) - 1)
        return rest + gain * (signal - rest)


@dataclass(frozen=True, kw_only=True)
class Noise(mb.View):
    """White noise, in each record of a strength up to `most` of its spread."""

    most: float = 0.1

    def __post_init__(self) -> None:
        check_between("noise", "most", self.most)

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Return `signal` (B, L, T) with noise."""
        strength = self.most * uniform(signal, generator, len(signal), 1, 1) * spread(signal)
        return signal + strength * normal(signal, generator)


@dataclass(frozen=True, kw_only=True)
class Jitter(mb.View):
    """White noise of exactly `strength` of each lead's own spread."""

    strength: float = 0.1

    def __post_init__(self) -> None:
        check_between("jitter", "strength", self.strength, highest=10.0)

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Return `signal` (B, L, T) with noise."""
        return signal + self.strength * signal.std(dim=-1, keepdim=True) * normal(signal, generator)


@dataclass(frozen=True, kw_only=True)
class Wander(mb.View):
    """Slow waves of `strength` of the record's spread: up to three cycles in a record, in each lead of another phase."""

    strength: float = 0.2

    def __post_init__(self) -> None:
        check_between("wander", "strength", self.strength)

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Return `signal` (B, L, T) on a wandering baseline."""
        cycles = 3 * uniform(signal, generator, len(signal), 1, 1)
        phase = uniform(signal, generator, *signal.shape[:2], 1)
        time = torch.linspace(0, 1, signal.shape[-1], device=signal.device, dtype=signal.dtype)
        turned, begun = 2 * math.pi * cycles * time, 2 * math.pi * phase  # (B, 1, T), (B, L, 1)
        waves = begun.cos() @ turned.sin() + begun.sin() @ turned.cos()  # the sine of their sum
        return signal + self.strength * spread(signal) * waves


@dataclass(frozen=True, kw_only=True)
class Mains(mb.View):
    """A sine of the mains, in each lead of a strength up to `most` of the record's spread, in one phase or its opposite.

    A record sampled at no more than twice that frequency cannot hold it, and stays as it is.
    """

    hertz: float = 50.0
    most: float = 0.2
    rate_hz: float = 500.0

    def __post_init__(self) -> None:
        check_between("mains", "most", self.most)
        check_between("mains", "hertz", self.hertz, lowest=1.0, highest=1000.0)

    def at(self, spec: mb.SignalSpec) -> Mains:
        """Return the view for records of the rate of `spec`."""
        return replace(self, rate_hz=spec.rate_hz)

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Return `signal` (B, L, T) with the hum of the mains."""
        if 2 * self.hertz >= self.rate_hz:
            return signal
        strength = self.most * (2 * uniform(signal, generator, *signal.shape[:2], 1) - 1) * spread(signal)
        phase = uniform(signal, generator, len(signal), 1, 1)
        seconds = torch.arange(signal.shape[-1], device=signal.device, dtype=signal.dtype) / self.rate_hz
        return signal + strength * torch.sin(2 * math.pi * (self.hertz * seconds + phase))


@dataclass(frozen=True, kw_only=True)
class MuscleNoise(mb.View):
    """Noise of `low_hz` to `high_hz`, of which each lead has its own, in each record of a strength up to `most` of its spread.

    Of the band there is what lies below half the rate; a record that holds none of it stays as it is.
    """

    most: float = 0.2
    low_hz: float = 20.0
    high_hz: float = 150.0
    rate_hz: float = 500.0

    def __post_init__(self) -> None:
        check_between("emg", "most", self.most)
        check_between("emg", "low_hz", self.low_hz, highest=self.high_hz)

    def at(self, spec: mb.SignalSpec) -> MuscleNoise:
        """Return the view for records of the rate of `spec`."""
        return replace(self, rate_hz=spec.rate_hz)

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Return `signal` (B, L, T) with muscles' noise."""
        hertz = torch.fft.rfftfreq(signal.shape[-1], 1 / self.rate_hz)  # (F,), on the processor: nothing waits for it
        band = (hertz > 0) & (hertz >= self.low_hz) & (hertz <= self.high_hz)
        if not band.any():
            return signal
        noise: Tensor = torch.fft.irfft(torch.fft.rfft(normal(signal, generator)) * band.to(signal.device), n=signal.shape[-1])
        noise = noise / noise.std(dim=-1, keepdim=True).clamp_min(torch.finfo(noise.dtype).tiny)
        return signal + self.most * uniform(signal, generator, len(signal), 1, 1) * spread(signal) * noise


def mains(*, hertz: float = 50.0, most: float = 0.2) -> Mains:
    """Return the hum of the mains at `hertz`, up to `most` of a record's spread."""
    return Mains(hertz=hertz, most=most)


def emg(*, most: float = 0.2, low_hz: float = 20.0, high_hz: float = 150.0) -> MuscleNoise:
    """Return muscles' noise of a band, up to `most` of a record's spread."""
    return MuscleNoise(most=most, low_hz=low_hz, high_hz=high_hz)


@mb.hookimpl
def melp_views() -> list[mb.Entry[mb.View]]:
    """Offer each noise."""
    filters, license_ = "https://doi.org/10.1109/10.43620", "MIT"
    ts_tcc = "https://arxiv.org/abs/2106.14112"
    return [
        mb.Entry("gain", Gain, "a random gain per record", "https://arxiv.org/abs/2002.05709", license_),
        mb.Entry("noise", Noise, "white noise of random strength", "https://arxiv.org/abs/2002.05709", license_),
        mb.Entry(
            "jitter",
            Jitter,
            "white noise of one strength, by each lead's own spread",
            ts_tcc,
            license_,
        ),
        mb.Entry("wander", Wander, "a slowly wandering baseline", filters, license_),
        mb.Entry("mains", mains, "the hum of the mains, 50 or 60 Hz", filters, license_),
        mb.Entry("emg", emg, "muscles' noise of a band of frequencies", filters, license_),
    ]
