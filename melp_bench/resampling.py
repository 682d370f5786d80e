"""From one sampling rate to another, as scipy does it by a filter or by a transform, batched on the device of the signals.

Shapes: T samples, P phases, W taps of a phase.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from melp_bench.errors import UserError


@lru_cache(maxsize=64)
def ratio(have_hz: float, want_hz: float) -> tuple[int, int]:
    """Return (up, down); ratios of large terms are rounded to a denominator <= 1000, less than 0.01 sample in 10 s."""
    if not (math.isfinite(have_hz) and have_hz > 0 and math.isfinite(want_hz) and want_hz > 0):
        raise UserError(f"rates are {have_hz!r} and {want_hz!r} Hz; wanted positive numbers")
    exact = Fraction(want_hz) / Fraction(have_hz)
    near = exact.limit_denominator(1000) if exact < 1 else 1 / (1 / exact).limit_denominator(1000)
    return near.numerator, near.denominator


@lru_cache(maxsize=64)
def _filter_bank(up: int, down: int) -> tuple[Tensor, int, int]:
    """Return polyphase filters (P, 1, W) in float64, how many samples they reach back, and the stride from block to block.

    The prototype is scipy.signal.resample_poly's: 20 * max(up, down) + 1 taps, Kaiser window with beta 5, cut-off at the
    lower of both Nyquist rates. P is a multiple of `up`, at least 16: one output at a time is ten times slower on a CPU.
    """
    group = max(1, 16 // up)
    phases = up * group
    half = 10 * max(up, down)
    taps = np.sinc(np.arange(-half, half + 1) / max(up, down)) * np.kaiser(2 * half + 1, 5.0)
    taps *= up / taps.sum()
    reach = half // up
    width = reach + (half + (phases - 1) * down) // up + 1
    bank = np.zeros((phases, width))
    for phase in range(phases):  # output phase + m * phases reads the inputs m * stride - reach + w
        position = half + phase * down - (np.arange(width) - reach) * up
        inside = (position >= 0) & (position <= 2 * half)
        bank[phase, inside] = taps[position[inside]]
    return torch.from_numpy(bank)[:, None], reach, group * down


def resample(signals: Tensor, *, have_hz: float, want_hz: float) -> Tensor:
    """Return `signals` (..., T) at `want_hz`, shape (..., ceil(T * want_hz / have_hz)).

    Equals `scipy.signal.resample_poly(..., padtype="edge")` to float32 rounding: the first and last values are held beyond
    the ends, so that a record with an offset has no step there.
    """
    up, down = ratio(have_hz, want_hz)
    if up == down:
        return signals
    bank, reach, stride = _filter_bank(up, down)
    count = -(-signals.shape[-1] * up // down)
    blocks = -(-count // len(bank))
    right = max(0, (blocks - 1) * stride + bank.shape[-1] - reach - signals.shape[-1])
    flat = signals.reshape(math.prod(signals.shape[:-1]), 1, signals.shape[-1])  # (N, 1, T)
    flat = torch.cat([flat[..., :1].expand(-1, -1, reach), flat, flat[..., -1:].expand(-1, -1, right)], dim=-1)
    out = F.conv1d(flat, bank.to(flat), stride=stride)[..., :blocks]  # (N, P, blocks)
    return out.transpose(1, 2).reshape(*signals.shape[:-1], blocks * len(bank))[..., :count]


def resample_fourier(signals: Tensor, *, have_hz: float, want_hz: float) -> Tensor:
    """Return `signals` (..., T) at `want_hz`, shape (..., ceil(T * want_hz / have_hz)), by their Fourier transform.

    Equals `scipy.signal.resample` to float32 rounding. The signal counts as periodic: where its ends differ, both ring.
    """
    up, down = ratio(have_hz, want_hz)
    if up == down:
        return signals
    have = signals.shape[-1]
    want = -(-have * up // down)
    spectrum = torch.fft.rfft(signals)[..., : min(have, want) // 2 + 1]
    if min(have, want) % 2 == 0:  # the highest frequency that both hold stands for itself and for its negative
        weights = torch.ones(spectrum.shape[-1], device=signals.device)
        weights[-1] = 2.0 if want < have else 0.5
        spectrum = spectrum * weights
    return torch.fft.irfft(spectrum, want) * (want / have)
