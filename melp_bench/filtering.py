"""Filters that an encoder can ask for, batched on the device of the signals: band, notch, median baseline, decimation.

A recursive filter is carried out block by block, all records and leads at once: within a block as a matrix, from block to block
by the filter's states. Starts, ends and lengths of extension are scipy's. On one core of a CPU it takes as
long as scipy (notch and band, both ways, 12 leads of 10 s at 500 Hz, 32 records at once).

Shapes: B records, L leads, T samples, M blocks of K samples, S states of a filter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from melp_bench.errors import UserError

SETTLE_SECONDS = 20.0
"""What lies further behind the window that an encoder reads is not filtered with it, and has no say."""
BLOCK = 64
"""Samples that are filtered at once; from one block to the next only the filter's states pass, in float64."""
MEDIAN_BYTES = 2**28
"""Memory that windows of a running median take at a time on a device that has no other way."""


@dataclass(frozen=True)
class Filter:
    """How records are filtered, at their own rate, before they are resampled; the parts are carried out in this order.

    Attributes:
        notch_hz: the mains, taken out by a second-order notch of quality `notch_q`, as `scipy.signal.iirnotch`.
        band: low and high edge in hertz of a Butterworth filter of `order`, as `scipy.signal.butter` counts it; None: no edge.
        fir_seconds: the length of a finite filter for the band instead, as `scipy.signal.firwin` (Hamming) of an odd number of
            taps makes it; None: the Butterworth filter.
        baseline_seconds: the length of a running median, which is subtracted; None: it is not.
        baseline_ends: what it reads beyond the ends: the record's mirror image, as `scipy.ndimage` has it, or zeros, as
            `scipy.signal.medfilt`.
        after_resampling: carried out on what is kept of the record, at the encoder's rate, instead of on the record at its own.
        causal: once forwards, as a recorder filters; otherwise forwards and backwards, which moves no wave and counts twice.

    What a record's rate cannot hold need not be taken out: a notch or a high edge at or above half the rate is left out. Both
    ends are as `scipy.signal.sosfiltfilt` has them (an odd extension, of `filtfilt`'s length), or with `causal` as `sosfilt`
    from the steady state of the first value.
    """

    notch_hz: float | None = None
    notch_q: float = 30.0
    band: tuple[float | None, float | None] = (None, None)
    order: int = 4
    fir_seconds: float | None = None
    baseline_seconds: float | None = None
    baseline_ends: Literal["mirror", "zero"] = "mirror"
    after_resampling: bool = False
    causal: bool = False

    def __str__(self) -> str:
        """Return it in words: "no 50 Hz, 0.67-40 Hz, less the median of 0.4 s"."""
        low, high = self.band
        words = [f"no {self.notch_hz:g} Hz"] if self.notch_hz is not None else []
        if low is not None or high is not None:
            words.append(f"{low:g}-{high:g} Hz" if low and high else f"above {low:g} Hz" if low else f"below {high:g} Hz")
        words[-1:] = [f"{words[-1]} (finite, {self.fir_seconds:g} s)"] if self.fir_seconds is not None else words[-1:]
        words += [f"less the median of {self.baseline_seconds:g} s"] if self.baseline_seconds is not None else []
        words += ["after resampling"] if self.after_resampling else []
        return ", ".join(words) + (", causal" if self.causal else "")

    def __post_init__(self) -> None:
        """Check what would only be found out at the first record."""
        low, high = self.band
        numbers = (self.notch_hz, low, high, self.baseline_seconds, self.fir_seconds)
        given = [value for value in numbers if value is not None]
        edges = low is None or high is None or low < high
        if not (all(math.isfinite(value) and value > 0 for value in given) and edges and self.order >= 1 and self.notch_q > 0):
            raise UserError(f"{self!r} is no filter; wanted positive numbers, and a band whose low edge is below its high edge")
        if self.fir_seconds is not None and low is None and high is None:
            raise UserError(f"fir_seconds is {self.fir_seconds:g} and there is no band for it to pass; give band")
        if self.baseline_ends not in ("mirror", "zero"):
            raise UserError(f"baseline_ends is {self.baseline_ends!r}; wanted 'mirror' or 'zero'")
        if not given:
            raise UserError("a Filter says nothing; give it a band, notch_hz or baseline_seconds, or leave it out")


def filtered(signals: Tensor, wanted: Filter, rate_hz: float) -> Tensor:
    """Return `signals` (..., T) at `rate_hz` filtered as `wanted`, to float32 rounding as scipy does it."""
    x = signals
    for sections in _stages(wanted, rate_hz):
        x = _passed(x, sections) if wanted.causal else _both_ways(x, sections)
    if wanted.fir_seconds is not None and (taps := _taps(wanted, rate_hz)) is not None:
        x = _convolved(x, taps) if wanted.causal else _convolved_both_ways(x, taps)
    if wanted.baseline_seconds is not None:
        width = 2 * (round(wanted.baseline_seconds * rate_hz) // 2) + 1
        x = x - running_median(x, width, wanted.baseline_ends) if width > 1 else x
    return x


Sections = tuple[tuple[float, ...], ...]
"""Second-order sections as scipy has them, (sections, 6); a tuple, by which responses are kept."""


@lru_cache(maxsize=64)
def _stages(wanted: Filter, rate_hz: float) -> tuple[Sections, ...]:
    """Return the filters to run one after the other."""
    from scipy import signal  # slow to import, and few filter

    half = rate_hz / 2
    found: list[NDArray[np.float64]] = []
    if wanted.notch_hz is not None and wanted.notch_hz < half:
        found.append(signal.tf2sos(*signal.iirnotch(wanted.notch_hz, wanted.notch_q, fs=rate_hz)))
    low, high = _edges(wanted, rate_hz)
    if wanted.fir_seconds is None and (low is not None or high is not None):
        kind: Any = "bandpass" if low is not None and high is not None else "lowpass" if low is None else "highpass"
        edges: Any = [low, high] if kind == "bandpass" else high if low is None else low
        found.append(signal.butter(wanted.order, edges, btype=kind, output="sos", fs=rate_hz))
    return tuple(_as_sections(sections) for sections in found)


def _as_sections(rows: NDArray[np.float64]) -> Sections:
    return tuple(tuple(row) for row in rows.tolist())


def _edges(wanted: Filter, rate_hz: float) -> tuple[float | None, float | None]:
    """Return the band's edges that a record of this rate can hold.

    Raises:
        UserError: it has nothing above the low edge.
    """
    half, (low, high) = rate_hz / 2, wanted.band
    if low is not None and low >= half:
        raise UserError(f"a record of {rate_hz:g} Hz has nothing above the low edge of {low:g} Hz; choose another filter")
    return low, high if high is not None and high < half else None


@lru_cache(maxsize=64)
def _taps(wanted: Filter, rate_hz: float) -> Tensor | None:
    """Return the taps of the finite filter for the band; None where a record of this rate has nothing to be taken out."""
    from scipy import signal

    low, high = _edges(wanted, rate_hz)
    if low is None and high is None:
        return None
    length = int((wanted.fir_seconds or 0.0) * rate_hz)
    edges = [edge for edge in (low, high) if edge is not None]
    taps = signal.firwin(length + 1 - length % 2, edges, pass_zero=low is None, fs=rate_hz)
    return torch.from_numpy(taps.astype(np.float32))


def extension(sections: Sections) -> int:
    """Return by how many samples scipy extends a signal at either end before it filters it both ways."""
    rows = np.array(sections)
    order = 2 * len(rows) + 1 - min(int((rows[:, 2] == 0).sum()), int((rows[:, 5] == 0).sum()))
    return 3 * order


@lru_cache(maxsize=64)
def _blocks(sections: Sections) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
    """Return what filters a block of `BLOCK` samples from S states, and the gain of a constant.

    The maps are: samples to samples (K, K), samples to the states behind them (K, S), states to samples (S, K), and states to
    the states a block later (S, S). They are what scipy's filter does to a sample of 1 at each place, and to each state of 1.
    """
    from scipy import signal

    rows = np.array(sections)
    states = 2 * len(rows)
    from_samples, behind = signal.sosfilt(rows, np.eye(BLOCK), zi=np.zeros((len(rows), BLOCK, 2)))
    ones = np.eye(states).reshape(states, len(rows), 2).transpose(1, 0, 2)
    from_states, later = signal.sosfilt(rows, np.zeros((states, BLOCK)), zi=ones)
    gain = float(np.prod(rows[:, :3].sum(axis=1) / rows[:, 3:].sum(axis=1)))
    return (
        torch.from_numpy(from_samples).float(),
        torch.from_numpy(behind.transpose(1, 0, 2).reshape(BLOCK, states)),
        torch.from_numpy(from_states),
        torch.from_numpy(later.transpose(1, 0, 2).reshape(states, states)),
        gain,
    )


def _passed(x: Tensor, sections: Sections) -> Tensor:
    """Return `x` (..., T) filtered forwards, as if its first value had always been there."""
    *maps, gain = _blocks(sections)
    from_samples, behind, from_states, later = (one.to(x.device) for one in maps)
    first = x[..., :1]
    padded = F.pad(x - first, (0, -x.shape[-1] % BLOCK))
    blocks = padded.reshape(*x.shape[:-1], padded.shape[-1] // BLOCK, BLOCK)  # (..., M, K)
    left = blocks.double() @ behind  # (..., M, S)
    state, before = torch.zeros_like(left[..., 0, :]), []
    for number in range(left.shape[-2]):
        before.append(state)
        state = state @ later + left[..., number, :]
    y: Tensor = blocks @ from_samples + (torch.stack(before, dim=-2) @ from_states).float()
    return y.flatten(-2)[..., : x.shape[-1]] + gain * first


def _both_ways(x: Tensor, sections: Sections) -> Tensor:
    """Return `x` (..., T) filtered forwards and then backwards, its ends extended by their mirror images upside down."""
    longer, reach = _extended(x, extension(sections))
    y = _passed(_passed(longer, sections).flip(-1), sections).flip(-1)
    return y[..., reach : reach + x.shape[-1]]


def _convolved(x: Tensor, taps: Tensor) -> Tensor:
    """Return `x` (..., T) filtered forwards by finite `taps`, as if its first value had always been there."""
    flat = x.reshape(-1, 1, x.shape[-1])
    before = flat[..., :1].expand(-1, -1, len(taps) - 1)
    return F.conv1d(torch.cat([before, flat], dim=-1), taps.to(x).flip(0)[None, None]).reshape(x.shape)


def _convolved_both_ways(x: Tensor, taps: Tensor) -> Tensor:
    """Return `x` (..., T) filtered by `taps` forwards and backwards; ends are extended as `scipy.signal.filtfilt` does."""
    longer, reach = _extended(x, 3 * len(taps))
    y = _convolved(_convolved(longer, taps).flip(-1), taps).flip(-1)
    return y[..., reach : reach + x.shape[-1]]


def _extended(x: Tensor, reach: int) -> tuple[Tensor, int]:
    """Return `x` (..., T) between mirror images upside down of its ends, and how long these are: at most `reach`."""
    reach = min(reach, x.shape[-1] - 1)
    before = 2 * x[..., :1] - x[..., 1 : reach + 1].flip(-1)
    after = 2 * x[..., -1:] - x[..., x.shape[-1] - reach - 1 : -1].flip(-1)
    return torch.cat([before, x, after], dim=-1), reach


def decimated(x: Tensor, factor: int) -> Tensor:
    """Return every `factor`-th of `x` (..., T) behind a filter against aliasing, as `scipy.signal.decimate` does by default."""
    from scipy import signal

    sections = _as_sections(signal.cheby1(8, 0.05, 0.8 / factor, output="sos"))
    return _both_ways(x, sections)[..., ::factor]


def running_median(x: Tensor, width: int, ends: Literal["mirror", "zero"] = "mirror") -> Tensor:
    """Return the median of the `width` (odd) samples around each of `x` (..., T); beyond its ends lies its mirror or 0."""
    if x.device.type == "cpu" and not x.requires_grad:
        from scipy.ndimage import median_filter

        found = np.empty(x.shape, dtype=x.numpy().dtype).reshape(-1, x.shape[-1])
        for row, lead in zip(found, x.reshape(-1, x.shape[-1]).numpy(), strict=True):  # one by one is 25 times faster
            row[:] = median_filter(lead, size=width, mode="reflect" if ends == "mirror" else "constant", cval=0.0)
        return torch.from_numpy(found).reshape(x.shape)
    flat, half = x.reshape(-1, x.shape[-1]), width // 2
    index = torch.arange(-half, x.shape[-1] + half, device=x.device) % (2 * x.shape[-1])
    index = torch.minimum(index, 2 * x.shape[-1] - 1 - index)
    rows = max(1, MEDIAN_BYTES // (4 * width * x.shape[-1]))

    def longer(part: Tensor) -> Tensor:
        return part[:, index] if ends == "mirror" else F.pad(part, (half, half))

    medians = [longer(part).unfold(-1, width, 1).median(dim=-1).values for part in torch.split(flat, rows)]
    return torch.cat(medians).reshape(x.shape)
