"""What happens to the frequencies of a record: a band that is masked, or all but a band.

Frequency masking is SpecAugment's (Park et al. 2019, https://arxiv.org/abs/1904.08779) on the spectrum of a whole record; the
band of a denoised ECG is the one of monitors, 0.5 to 40 Hz (Kligfield et al. 2007, https://doi.org/10.1161/CIRCULATIONAHA.106.180200).
Shapes: B records, L leads, T samples, F frequencies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

import melp_bench as mb
from melp_plugins.views.relative import check_between, uniform


@dataclass(frozen=True, kw_only=True)
class FrequencyMask(mb.View):
    """A band up to `widest_hz` wide and below `highest_hz`, another in each record, that is taken out of all leads.

    Each lead's mean stays what it is.
    """

    widest_hz: float = 5.0
    highest_hz: float = 40.0
    rate_hz: float = 500.0

    def __post_init__(self) -> None:
        check_between("frequency-mask", "widest_hz", self.widest_hz, highest=self.highest_hz)

    def at(self, spec: mb.SignalSpec) -> FrequencyMask:
        """Return the view for records of the rate of `spec`."""
        return replace(self, rate_hz=spec.rate_hz)

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Return `signal` (B, L, T) without a band."""
        width = self.widest_hz * uniform(signal, generator, len(signal), 1, 1)
        low = (self.highest_hz - width) * uniform(signal, generator, len(signal), 1, 1)
        hertz = frequencies(signal, self.rate_hz)
        return kept(signal, (hertz == 0) | (hertz < low) | (hertz > low + width))


@dataclass(frozen=True, kw_only=True)
class BandPass(mb.View):
    """A record of which all but `low_hz` to `high_hz` is taken out, without a shift of phase; each lead's mean stays."""

    low_hz: float = 0.5
    high_hz: float = 40.0
    rate_hz: float = 500.0

    def __post_init__(self) -> None:
        check_between("band-pass", "low_hz", self.low_hz, highest=self.high_hz)

    def at(self, spec: mb.SignalSpec) -> BandPass:
        """Return the view for records of the rate of `spec`."""
        return replace(self, rate_hz=spec.rate_hz)

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Return `signal` (B, L, T), denoised."""
        hertz = frequencies(signal, self.rate_hz)
        return kept(signal, (hertz == 0) | ((hertz >= self.low_hz) & (hertz <= self.high_hz)))


def frequencies(signal: Tensor, rate_hz: float) -> Tensor:
    """Return the frequencies (F,) of the spectrum of `signal` (B, L, T)."""
    hertz: Tensor = torch.fft.rfftfreq(signal.shape[-1], 1 / rate_hz, device=signal.device)
    return hertz


def kept(signal: Tensor, band: Tensor) -> Tensor:
    """Return `signal` (B, L, T) with nothing but the frequencies where `band`, broadcast to (B, L, F), is True."""
    filtered: Tensor = torch.fft.irfft(torch.fft.rfft(signal) * band, n=signal.shape[-1])
    return filtered


def frequency_mask(*, widest_hz: float = 5.0, highest_hz: float = 40.0) -> FrequencyMask:
    """Return the view that masks a band up to `widest_hz` wide, below `highest_hz`."""
    return FrequencyMask(widest_hz=widest_hz, highest_hz=highest_hz)


def band_pass(*, low_hz: float = 0.5, high_hz: float = 40.0) -> BandPass:
    """Return the view that keeps a band."""
    return BandPass(low_hz=low_hz, high_hz=high_hz)


@mb.hookimpl
def melp_views() -> list[mb.Entry[mb.View]]:
    """Offer each change of the spectrum."""
    masked, monitors = "https://arxiv.org/abs/1904.08779", "https://doi.org/10.1161/CIRCULATIONAHA.106.180200"
    return [
        mb.Entry("frequency-mask", frequency_mask, "a random band of frequencies taken out", masked, "MIT"),
        mb.Entry("band-pass", band_pass, "nothing but a band of frequencies: a denoised record", monitors, "MIT"),
    ]
