"""A record as the comparison sees it: its beats' band at 100 Hz, and where to anchor a comparison.

What stays when a recording is packed again: resampling keeps the band below 40 Hz; a gain scales a lead; a baseline filter
moves what is below 2 Hz. So each lead is passed through the difference of two Gaussians (about 2 to 20 Hz), whose support is
finite: away from the ends of a record, a cut-out has exactly the waves of the whole.

Shapes: L leads, T samples at 100 Hz, A anchors.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import convolve1d, maximum_filter1d

from melp_bench.records import Signal

RATE_HZ = 100
NARROW_S, WIDE_S = 0.012, 0.06
"""Standard deviations of the two Gaussians: the band is 3 dB down at about 2.5 and 14 Hz, and empty at 0 and 50 Hz."""

EDGE = round(4 * WIDE_S * RATE_HZ)
"""Samples at either end that the filter makes up in part."""

STILL_MILLIVOLT = 5e-4
"""Leading and trailing samples of which no lead moves by more are padding, whatever their value."""

LIVE_MILLIVOLT = 1e-3
"""A lead whose waves are smaller than a microvolt is flat."""

APART, NEAR = 25, 75
"""Anchors are at least 0.25 s apart, and at least `PROMINENT` of what is within 0.75 s of them."""

PROMINENT = 0.3
SMOOTH = np.hanning(11)[1:-1].astype(np.float32) / np.hanning(11).sum().astype(np.float32)

Waves = NDArray[np.float32]


@dataclass(frozen=True)
class Beats:
    """A record's waves (L, T) in millivolts, its anchors (A,) in samples, and the second at which the waves begin."""

    waves: Waves
    anchors: NDArray[np.float64]
    begin_s: float


def beats(signal: Signal) -> Beats:
    """Return the waves and anchors of a record; none of either where it is shorter than the filter's support or still."""
    x = np.asarray(signal.millivolts, dtype=np.float32)
    moving = np.flatnonzero((np.abs(np.diff(x, axis=1)) > STILL_MILLIVOLT).any(axis=0))
    first, last = (int(moving[0]), int(moving[-1]) + 2) if len(moving) else (0, 0)
    filtered = _filtered(x[:, first:last], signal.rate_hz) if last > first else x[:, :0]
    waves = filtered[:, EDGE:-EDGE]
    return Beats(waves, _anchors(_activity(waves)), first / signal.rate_hz + EDGE / RATE_HZ)


def live(waves: Waves) -> NDArray[np.bool_]:
    """Return which leads are not flat, (L,)."""
    return np.asarray(np.sqrt(np.square(waves).mean(axis=-1)) > LIVE_MILLIVOLT)


def at(waves: Waves, times: NDArray[np.floating[Any]]) -> Waves:
    """Return `waves` (..., T) at `times` (...) in samples, by cubic interpolation; the ends are held."""
    whole = np.floor(times).astype(np.int64)
    part = (times - whole).astype(np.float32)
    before, here, next_, after = (waves[..., np.clip(whole + k, 0, waves.shape[-1] - 1)] for k in (-1, 0, 1, 2))
    a, b, c, d = _cubic(part)
    return np.asarray(a * before + b * here + c * next_ + d * after, dtype=np.float32)


def slices(waves: Waves, starts: NDArray[np.float64], length: int) -> Waves:
    """Return `length` samples from each of `starts` (A,), shape (L, A, length), by cubic interpolation.

    Every start must be at least 1, and `length` + 2 samples before the end.
    """
    whole = np.floor(starts).astype(np.int64)
    weights = _cubic((starts - whole).astype(np.float32)[:, None])
    views = np.lib.stride_tricks.sliding_window_view(waves, length + 3, axis=-1)[:, whole - 1]  # (L, A, length + 3)
    return np.asarray(sum(w * views[..., k : k + length] for k, w in enumerate(weights)), dtype=np.float32)


def _cubic(part: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """Return the weights of the samples -1, 0, 1 and 2 for a point `part` behind sample 0 (Catmull and Rom's spline)."""
    p2, p3 = part * part, part * part * part
    weights = (-p3 + 2 * p2 - part) / 2, (3 * p3 - 5 * p2 + 2) / 2, (-3 * p3 + 4 * p2 + part) / 2, (p3 - p2) / 2
    return tuple(weight.astype(np.float32, copy=False) for weight in weights)


def _filtered(x: Waves, rate_hz: float) -> Waves:
    """Return `x` (L, samples) at 100 Hz, band-passed; the ends wrap around within `EDGE` samples."""
    ratio = Fraction(rate_hz).limit_denominator(1000) / RATE_HZ
    padded = -(-x.shape[1] // ratio.numerator) * ratio.numerator  # so that it is a whole number of samples at 100 Hz
    count = padded * ratio.denominator // ratio.numerator
    spectrum = fft.rfft(x - x.mean(axis=1, keepdims=True), n=padded, axis=1)[:, : count // 2 + 1]
    f = np.arange(spectrum.shape[1]) * rate_hz / padded
    low, high = (np.exp(-2 * (np.pi * seconds * f) ** 2) for seconds in (NARROW_S, WIDE_S))
    return np.asarray(fft.irfft(spectrum * ((low - high) * count / padded).astype(np.float32), n=count, axis=1), np.float32)


def _activity(waves: Waves) -> NDArray[np.float32]:
    """Return how much happens at each sample, (T,): the mean over live leads of their squares, each lead over its own scale.

    Neither the order of leads nor their signs or gains change it. A lead's scale is the median over seconds of its RMS.
    """
    num = waves.shape[1]
    if not num:
        return np.zeros(0, dtype=np.float32)
    seconds = max(1, num // RATE_HZ)
    blocks = waves[:, : seconds * (num // seconds)].reshape(len(waves), seconds, -1)
    scale = np.median(np.sqrt(np.square(blocks).mean(axis=2)), axis=1)  # (L,)
    weight = np.where(scale > LIVE_MILLIVOLT, 1 / np.maximum(scale, LIVE_MILLIVOLT) ** 2, 0).astype(np.float32)
    mean = weight @ np.square(waves) / max(1, int((weight > 0).sum()))
    return np.asarray(np.maximum(convolve1d(mean, SMOOTH, mode="constant"), 0), dtype=np.float32)


def _anchors(activity: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the peaks of `activity` (T,), to a part of a sample: R peaks as a rule, and whatever stands out in a pause."""
    if len(activity) < 3:
        return np.zeros(0)
    highest = maximum_filter1d(activity, 2 * APART + 1)
    enough = PROMINENT * maximum_filter1d(activity, 2 * NEAR + 1)
    (peaks,) = np.nonzero((activity == highest) & (activity > enough) & (activity > 0))
    peaks = peaks[(peaks > 0) & (peaks < len(activity) - 1)]
    before, here, after = (activity[peaks + k].astype(np.float64) for k in (-1, 0, 1))
    bend = np.minimum(before - 2 * here + after, -1e-12)
    return np.asarray(peaks + np.clip((before - after) / (2 * bend), -0.5, 0.5))
