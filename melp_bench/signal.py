"""What a dataset has and what an encoder wants, and `conform`, which stands between them.

Shapes: B records, L leads, T samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from melp_bench.errors import UserError
from melp_bench.leads import FLAT_MILLIVOLT, LEADS, LIMB, canonical_lead

VERSION = 1
"""Raise with any change that can move a conformed sample."""

__all__ = [
    "FLAT_MILLIVOLT",
    "LEADS",
    "LIMB",
    "Scaling",
    "SignalSpec",
    "bridge",
    "canonical_lead",
    "conform",
    "native_window",
    "resample",
]


class Scaling(StrEnum):
    """How an encoder wants amplitudes."""

    MILLIVOLT = "millivolt"
    ZSCORE_RECORD = "zscore-record"
    ZSCORE_LEAD = "zscore-lead"
    MINMAX_RECORD = "minmax-record"
    MINMAX_LEAD = "minmax-lead"


@dataclass(frozen=True)
class SignalSpec:
    """What an encoder wants: `seconds` at `rate_hz`, `leads` in this order, amplitudes in `scaling`."""

    rate_hz: float = 500.0
    seconds: float = 10.0
    leads: tuple[str, ...] = LEADS
    scaling: Scaling = Scaling.MILLIVOLT

    @property
    def samples(self) -> int:
        """Samples per lead."""
        return round(self.rate_hz * self.seconds)


# -------------------------------------------------------------------------------------------------------------- leads


def _mixing(have: Sequence[str], want: Sequence[str], missing: str) -> list[int] | Tensor:
    """Return where each wanted lead is found, or the matrix (wanted, had) that derives the missing limb leads."""
    names = [canonical_lead(name) for name in have]
    if len(set(names)) != len(names):
        raise UserError(f"leads {list(have)} name a lead twice; give each lead once")
    wanted = [canonical_lead(name) for name in want]
    if all(lead in names for lead in wanted):
        return [names.index(lead) for lead in wanted]
    matrix = torch.zeros(len(wanted), len(names), dtype=torch.float64)
    pair = [lead for lead in LIMB if lead in names][:2]
    for row, lead in enumerate(wanted):
        if lead in names:
            matrix[row, names.index(lead)] = 1.0
        elif lead in LIMB and len(pair) == 2:
            weights = np.linalg.solve(np.array([LIMB[known] for known in pair]).T, np.array(LIMB[lead]))
            for known, weight in zip(pair, weights.tolist(), strict=True):
                matrix[row, names.index(known)] = weight
        elif missing != "zero":
            raise UserError(f"lead {lead!r} is wanted; the record has {list(have)}, from which it cannot be derived")
    return matrix


# --------------------------------------------------------------------------------------------------------- resampling


@lru_cache(maxsize=64)
def _ratio(have_hz: float, want_hz: float) -> tuple[int, int]:
    """Return (up, down); ratios of large terms are rounded to a denominator <= 1000, less than 0.01 sample in 10 s."""
    if not (math.isfinite(have_hz) and have_hz > 0 and math.isfinite(want_hz) and want_hz > 0):
        raise UserError(f"rates are {have_hz!r} and {want_hz!r} Hz; wanted positive numbers")
    ratio = Fraction(want_hz) / Fraction(have_hz)
    ratio = ratio.limit_denominator(1000) if ratio < 1 else 1 / (1 / ratio).limit_denominator(1000)
    return ratio.numerator, ratio.denominator


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
    up, down = _ratio(have_hz, want_hz)
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


def native_window(rate_hz: float, spec: SignalSpec) -> int:
    """Return how many samples at `rate_hz` decide what `conform` returns; what comes after is cropped."""
    up, down = _ratio(rate_hz, spec.rate_hz)
    return -(-spec.samples * down // up) + (0 if up == down else 10 * max(up, down) // up + 1)


# ------------------------------------------------------------------------------------------------------------ conform


def conform(
    signals: Tensor,
    *,
    rate_hz: float,
    leads: Sequence[str],
    spec: SignalSpec,
    lengths: Tensor | None = None,
    missing: Literal["error", "zero"] = "error",
    inplace: bool = False,
) -> Tensor:
    """Return records as `spec` asks for them, shape (B, len(spec.leads), spec.samples), on the device of `signals`.

    `signals` is (B, L, T) in millivolts; `lengths` (B,) says how many samples of each record are real (default: all).

    - Leads are found by name. A missing limb lead is derived from two others (I and II where they are there); any other
      missing lead is an error, or zero with `missing="zero"`.
    - Samples that are not finite are bridged linearly within their lead; a lead without a finite sample is zero.
    - Another rate is reached by `resample`. A longer record keeps its first `spec.seconds`.
    - Scaling reads the kept, real samples only; constants become 0, except in millivolts. Min-max maps to [0, 1].
    - A shorter record is followed by zeros, which are put there after scaling.
    - `inplace` allows `signals` to be overwritten, which saves memory and, on a CPU, half the time.

    Raises:
        UserError: a lead is unknown, given twice or cannot be derived; a rate is not positive; a length is not in 1..T.
    """
    if signals.ndim != 3 or signals.shape[1] != len(leads) or signals.shape[2] == 0:
        raise UserError(f"signals have the shape {tuple(signals.shape)}; wanted (records, {len(leads)}, samples)")
    if lengths is not None and len(lengths) and not (int(lengths.min()) >= 1 and int(lengths.max()) <= signals.shape[2]):
        raise UserError(f"lengths are {lengths.tolist()}; wanted 1 to {signals.shape[2]}")
    mixing = _mixing(leads, spec.leads, missing)
    window = min(signals.shape[2], native_window(rate_hz, spec))
    x = signals[..., :window].float()
    if lengths is not None:
        lengths = lengths.to(x.device).clamp(max=window)
        lengths = None if bool((lengths == window).all()) else lengths
    if lengths is not None:
        x = _hold_last(x, lengths)
    if not bool(torch.isfinite(x.sum())):
        x = bridge(x)
    if isinstance(mixing, Tensor):
        x = torch.einsum("ol,blt->bot", mixing.to(x), x)
    elif mixing != list(range(len(leads))):
        x = x[:, mixing]
    x = resample(x, have_hz=rate_hz, want_hz=spec.rate_hz)[..., : spec.samples]
    if lengths is not None:
        up, down = _ratio(rate_hz, spec.rate_hz)
        lengths = (-(-lengths * up // down)).clamp(max=x.shape[-1])
    return _scale_and_pad(x, spec, lengths, inplace or x.data_ptr() != signals.data_ptr())


def bridge(signals: Tensor) -> Tensor:
    """Return `signals` (..., T) with samples that are not finite replaced by the line between their neighbours.

    At the ends the nearest finite sample is held; a lead without one is zero.
    """
    good = torch.isfinite(signals)
    time = torch.arange(signals.shape[-1], device=signals.device).expand(signals.shape)
    last = signals.shape[-1]
    before = torch.where(good, time, -1).cummax(dim=-1).values
    after = torch.where(good, time, last).flip(-1).cummin(dim=-1).values.flip(-1)
    before, after = torch.where(before < 0, after, before), torch.where(after == last, before, after)
    before, after = before.clamp(0, last - 1), after.clamp(0, last - 1)  # only a lead without any finite sample needs it
    values = torch.where(good, signals, 0.0)
    left, right = values.gather(-1, before), values.gather(-1, after)
    weight = (time - before).to(signals.dtype) / (after - before).clamp(min=1)
    return torch.where(good, signals, left + (right - left) * weight)


def _hold_last(x: Tensor, lengths: Tensor) -> Tensor:
    """Return `x` (B, L, T) with the last real sample of each record held to the end."""
    time = torch.arange(x.shape[-1], device=x.device)
    index = torch.minimum(time[None], lengths[:, None] - 1)  # (B, T)
    return x.gather(-1, index[:, None].expand(x.shape))


def _scale_and_pad(x: Tensor, spec: SignalSpec, lengths: Tensor | None, inplace: bool) -> Tensor:
    """Return `x` (B, L, T) scaled over its real samples and followed by zeros up to `spec.samples`."""
    real = None
    if lengths is not None:
        real = (torch.arange(x.shape[-1], device=x.device)[None] < lengths[:, None])[:, None]  # (B, 1, T)
    if spec.scaling is not Scaling.MILLIVOLT:
        x = _scaled(x, spec.scaling, real, inplace and not x.requires_grad)
    elif real is not None:
        x = torch.where(real, x, 0.0)
    return F.pad(x, (0, spec.samples - x.shape[-1])) if x.shape[-1] < spec.samples else x


def _scaled(x: Tensor, scaling: Scaling, real: Tensor | None, inplace: bool) -> Tensor:
    """Return `x` (B, L, T) less its origin, over its spread, both taken over the real samples; zero where none is real."""
    dims = (1, 2) if scaling in (Scaling.ZSCORE_RECORD, Scaling.MINMAX_RECORD) else (2,)
    zscore = scaling in (Scaling.ZSCORE_RECORD, Scaling.ZSCORE_LEAD)
    if zscore:
        channels = x.shape[1] if 1 in dims else 1
        count = torch.tensor(x.shape[2]) if real is None else real.sum(dim=2, keepdim=True)  # (B, 1, 1)
        origin = (x if real is None else torch.where(real, x, 0.0)).sum(dim=dims, keepdim=True) / (count * channels)
    else:
        origin = (x if real is None else torch.where(real, x, torch.inf)).amin(dim=dims, keepdim=True)
        spread = (x if real is None else torch.where(real, x, -torch.inf)).amax(dim=dims, keepdim=True) - origin
    x = x.sub_(origin) if inplace else x - origin
    if real is not None:
        x = torch.where(real, x, 0.0)
    if zscore:
        spread = torch.linalg.vector_norm(x, dim=dims, keepdim=True) / (count * channels) ** 0.5
    flat = spread < FLAT_MILLIVOLT
    inverse = torch.where(flat, 0.0, 1 / torch.where(flat, 1.0, spread))
    return x * inverse if x.requires_grad else x.mul_(inverse)
