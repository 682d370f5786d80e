"""What a dataset has and what an encoder wants, and `conform`, which stands between them.

Shapes: B records, L leads, T samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from melp_bench.errors import UserError
from melp_bench.filtering import SETTLE_SECONDS, Filter, decimated, filtered
from melp_bench.leads import FLAT_MILLIVOLT, LEADS, LIMB, canonical_lead, lead_matrix
from melp_bench.resampling import ratio, resample, resample_fourier

VERSION = 2
"""Raise with any change that can move a conformed sample; what filters, resamples and cuts windows is part of it."""

__all__ = [
    "FLAT_MILLIVOLT",
    "LEADS",
    "LIMB",
    "VERSION",
    "Crops",
    "Filter",
    "Scaling",
    "SignalSpec",
    "bridge",
    "canonical_lead",
    "conform",
    "native_window",
    "resample",
    "scaled",
]


class Scaling(StrEnum):
    """How an encoder wants amplitudes."""

    MILLIVOLT = "millivolt"
    ZSCORE_RECORD = "zscore-record"
    ZSCORE_LEAD = "zscore-lead"
    MINMAX_RECORD = "minmax-record"
    MINMAX_LEAD = "minmax-lead"
    SYMMETRIC_LEAD = "symmetric-lead"


@dataclass(frozen=True)
class Crops:
    """A record is embedded by crops of the spec's length, one after the other, and their embeddings are pooled.

    Attributes:
        overlap: the share of a crop that the next one reads too, from 0 to less than 1.
        pool: what a record's embedding is of those of its crops.
    """

    overlap: float = 0.0
    pool: Literal["mean", "max"] = "mean"

    def __post_init__(self) -> None:
        """Check what would only be found out at the first record."""
        if not 0 <= self.overlap < 1 or self.pool not in ("mean", "max"):
            raise UserError(f"{self} is no policy; wanted an overlap from 0 to less than 1, and the pool 'mean' or 'max'")


@dataclass(frozen=True)
class SignalSpec:
    """What an encoder wants: `seconds` at `rate_hz`, `leads` in this order, amplitudes in `scaling`.

    Attributes:
        filter: how records are filtered at their own rate, before they are resampled; None: not at all.
        clip: what scaled amplitudes are held to, from -clip to clip; None: they are not.
        resampling: how another rate is reached: by a polyphase filter, or by the Fourier transform of what is kept of a record,
            as `scipy.signal.resample` does it, which takes the record's end to come before its start.
        scale_seconds: how much of a record, from its start, amplitudes are scaled by, if that is more than what is kept of it.
        decimated_from_hz: a multiple of `rate_hz`, at which records are first made and scaled; then their leads are strung into
            one sequence, which is decimated as by `scipy.signal.decimate`, across the leads' borders; None: they are not.
        crops: how a longer record is embedded; None: by its first `seconds`. Pretraining reads the first `seconds` either way.
        missing_leads: what becomes of a lead that a record has not and that cannot be derived from two limb leads: the record
            is refused ("derive"), or the lead is zero.
    """

    rate_hz: float = 500.0
    seconds: float = 10.0
    leads: tuple[str, ...] = LEADS
    scaling: Scaling = Scaling.MILLIVOLT
    filter: Filter | None = None
    crops: Crops | None = None
    missing_leads: Literal["derive", "zero"] = "derive"
    clip: float | None = None
    resampling: Literal["polyphase", "fourier"] = "polyphase"
    scale_seconds: float | None = None
    decimated_from_hz: float | None = None

    def __post_init__(self) -> None:
        """Check what would only be found out at the first record."""
        for name, value in (("clip", self.clip), ("scale_seconds", self.scale_seconds)):
            if value is not None and not value > 0:
                raise UserError(f"{name} is {value!r}; wanted a positive number, or None")
        if self.resampling not in ("polyphase", "fourier"):
            raise UserError(f"resampling is {self.resampling!r}; wanted 'polyphase' or 'fourier'")
        if self.decimated_from_hz is not None and (self.decimated_from_hz % self.rate_hz or self.crops is not None):
            raise UserError(
                f"decimated_from_hz is {self.decimated_from_hz!r}; wanted a multiple of the {self.rate_hz:g} Hz, and no crops"
            )

    @property
    def samples(self) -> int:
        """Samples per lead."""
        return round(self.rate_hz * self.seconds)

    @property
    def scaled_samples(self) -> int:
        """Samples per lead that amplitudes are scaled by, those that are kept among them."""
        return max(self.samples, round(self.rate_hz * (self.scale_seconds or 0.0)))

    def __str__(self) -> str:
        """Return it in a line: "500 Hz, 10 s, 12 leads, zscore-record, 0.67-40 Hz"."""
        number = f"{len(self.leads)} lead{'s' * (len(self.leads) != 1)}"
        parts = [f"{self.rate_hz:g} Hz", f"{self.seconds:g} s", number, str(self.scaling)]
        parts += [f"scaled by {self.scale_seconds:g} s"] if self.scale_seconds is not None else []
        parts += [f"leads strung and decimated from {self.decimated_from_hz:g} Hz"] if self.decimated_from_hz else []
        parts += ["resampled by its Fourier transform"] if self.resampling == "fourier" else []
        parts += [f"clipped at {self.clip:g}"] if self.clip is not None else []
        parts += [str(self.filter)] if self.filter else []
        parts += [f"{self.crops.pool} over crops"] if self.crops else []
        parts += ["other leads zero"] if self.missing_leads == "zero" else []
        return ", ".join(parts)

    def refusal(self, leads: Sequence[str]) -> str | None:
        """Return why a record with `leads` cannot be conformed, in one line; None if it can."""
        try:
            lead_matrix(leads, self.leads, zero=self.missing_leads == "zero")
        except UserError as error:
            return str(error)
        return None


def native_window(rate_hz: float, spec: SignalSpec) -> int:
    """Return how many samples at `rate_hz` decide what `conform` returns; what comes after is cropped."""
    if spec.decimated_from_hz is not None:
        return native_window(rate_hz, _before_decimation(spec, spec.decimated_from_hz))
    up, down = ratio(rate_hz, spec.rate_hz)
    settle = 0 if spec.filter is None or spec.filter.after_resampling else round(SETTLE_SECONDS * rate_hz)
    reach = 0 if up == down or spec.resampling == "fourier" else 10 * max(up, down) // up + 1
    return -(-spec.scaled_samples * down // up) + reach + settle


def _before_decimation(spec: SignalSpec, from_hz: float) -> SignalSpec:
    return replace(spec, rate_hz=from_hz, decimated_from_hz=None)


# ------------------------------------------------------------------------------------------------------------ conform


def conform(
    signals: Tensor,
    *,
    rate_hz: float,
    leads: Sequence[str],
    spec: SignalSpec,
    lengths: Tensor | None = None,
    inplace: bool = False,
) -> Tensor:
    """Return records as `spec` asks for them, shape (B, len(spec.leads), spec.samples), on the device of `signals`.

    `signals` is (B, L, T) in millivolts; `lengths` (B,) says how many samples of each record are real (default: all).

    - Leads are found by name. A missing limb lead is derived from two others (I and II where they are there); any other
      missing lead is an error, or zero where the spec says so.
    - Samples that are not finite are bridged linearly within their lead; a lead without a finite sample is zero.
    - The filter reads the record at its own rate, up to `SETTLE_SECONDS` behind what is kept, or what is kept and resampled.
    - Another rate is reached by `resample` or `resample_fourier`. A longer record keeps its first `spec.seconds`.
    - Scaling reads the kept, real samples only, or those of `spec.scale_seconds`; constants become 0, except in millivolts.
      Min-max maps to [0, 1], and symmetric to [-1, 1].
    - What is scaled is clipped where the spec says so.
    - A shorter record is followed by zeros, which are put there after scaling.
    - `inplace` allows `signals` to be overwritten, which saves memory and, on a CPU, half the time.

    Raises:
        UserError: a lead is unknown, given twice or cannot be derived; a rate is not positive; a length is not in 1..T.
    """
    if signals.ndim != 3 or signals.shape[1] != len(leads) or signals.shape[2] == 0:
        raise UserError(f"signals have the shape {tuple(signals.shape)}; wanted (records, {len(leads)}, samples)")
    if lengths is not None and len(lengths) and not (int(lengths.min()) >= 1 and int(lengths.max()) <= signals.shape[2]):
        raise UserError(f"lengths are {lengths.tolist()}; wanted 1 to {signals.shape[2]}")
    if (from_hz := spec.decimated_from_hz) is not None:
        before = _before_decimation(spec, from_hz)
        x = conform(signals, rate_hz=rate_hz, leads=leads, spec=before, lengths=lengths, inplace=inplace)
        strung = decimated(x.flatten(1), round(from_hz / spec.rate_hz))  # (B, L T)
        return strung.unflatten(1, (len(spec.leads), spec.samples))
    mixing = lead_matrix(leads, spec.leads, zero=spec.missing_leads == "zero")
    window = min(signals.shape[2], native_window(rate_hz, spec))
    x = signals[..., :window].float()
    if lengths is not None:
        lengths = lengths.to(x.device).clamp(max=window)
        lengths = None if bool((lengths == window).all()) else lengths
    if lengths is not None:
        x = _hold_last(x, lengths)
    if not bool(torch.isfinite(x.sum())):
        x = bridge(x)
    if isinstance(mixing, np.ndarray):
        x = torch.einsum("ol,blt->bot", torch.from_numpy(mixing).to(x), x)
    elif mixing != list(range(len(leads))):
        x = x[:, mixing]
    if spec.filter is not None and not spec.filter.after_resampling:
        x = _filtered(x, spec.filter, rate_hz, lengths)
    x = _resampled(x, spec, rate_hz, lengths)[..., : spec.scaled_samples]
    if lengths is not None:
        up, down = ratio(rate_hz, spec.rate_hz)
        lengths = (-(-lengths * up // down)).clamp(max=x.shape[-1])
    if spec.filter is not None and spec.filter.after_resampling:
        x = _filtered(x, spec.filter, spec.rate_hz, lengths)
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


def scaled(signals: Tensor, scaling: Scaling) -> Tensor:
    """Return `signals` (B, L, T) in `scaling`, every sample taken for a real one."""
    return signals if scaling is Scaling.MILLIVOLT else _scaled(signals, scaling, None, inplace=False)


def _filtered(x: Tensor, wanted: Filter, rate_hz: float, lengths: Tensor | None) -> Tensor:
    """Return `x` (B, L, T) filtered, each record over its own length."""
    if lengths is None:
        return filtered(x, wanted, rate_hz)
    out = torch.zeros_like(x)
    for length in sorted(set(lengths.tolist())):
        (rows,) = torch.nonzero(lengths == length, as_tuple=True)
        out[rows, :, :length] = filtered(x[rows, :, :length], wanted, rate_hz)
    return _hold_last(out, lengths)


def _resampled(x: Tensor, spec: SignalSpec, rate_hz: float, lengths: Tensor | None) -> Tensor:
    """Return `x` (B, L, T) at the rate of the spec, as far as it is kept or farther."""
    if spec.resampling == "polyphase":
        return resample(x, have_hz=rate_hz, want_hz=spec.rate_hz)
    up, down = ratio(rate_hz, spec.rate_hz)
    kept = min(x.shape[-1], -(-spec.scaled_samples * down // up))
    if lengths is None:
        return resample_fourier(x[..., :kept], have_hz=rate_hz, want_hz=spec.rate_hz)
    out = x.new_zeros(*x.shape[:2], -(-kept * up // down))
    own = lengths.clamp(max=kept)
    for length in sorted(set(own.tolist())):
        (rows,) = torch.nonzero(own == length, as_tuple=True)
        made = resample_fourier(x[rows, :, :length], have_hz=rate_hz, want_hz=spec.rate_hz)
        out[rows, :, : made.shape[-1]] = made
    return out


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
    x = x[..., : spec.samples]
    if spec.clip is not None:
        x = x.clamp(-spec.clip, spec.clip)
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
        if scaling is Scaling.SYMMETRIC_LEAD:
            origin, spread = origin + spread / 2, spread / 2
    x = x.sub_(origin) if inplace else x - origin
    if real is not None:
        x = torch.where(real, x, 0.0)
    if zscore:
        spread = torch.linalg.vector_norm(x, dim=dims, keepdim=True) / (count * channels) ** 0.5
    flat = spread < FLAT_MILLIVOLT
    inverse = torch.where(flat, 0.0, 1 / torch.where(flat, 1.0, spread))
    return x * inverse if x.requires_grad else x.mul_(inverse)
