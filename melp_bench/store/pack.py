"""A record's signal, checked and turned into int16 with one gain per lead.

Shapes: L leads, T samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from melp_bench.lead_names import known_lead
from melp_bench.leads import FLAT_MILLIVOLT, LEADS
from melp_bench.records import BadRecord, Signal
from melp_bench.store.quality_flags import quality_flags

MIN_SECONDS = 1.0
MAX_MISSING = 0.01
MAX_MILLIVOLT = 1000.0
BEAT_MILLIVOLT = (0.03, 30.0)
"""Spans within a second: the largest lead's is above, the middle lead's below; with a unit wrong by 1000 it is not."""
RATES_HZ = (10.0, 100_000.0)
LIMIT = 32767


@dataclass(frozen=True)
class Packed:
    """A record as the store keeps it: millivolt = gain * value."""

    values: NDArray[np.int16]  # (L, T)
    gains: NDArray[np.float32]  # (L,) millivolts per unit
    rate_hz: float
    leads: tuple[str, ...]  # canonical names, in the source's order
    flat_leads: int
    missing_samples: int  # bridged by a line
    repairs: tuple[str, ...] = ()  # reason codes of what was mended, by the dataset or here
    quality_flags: tuple[str, ...] = ()  # reason codes of what looks wrong and was left as it is

    @property
    def verdict(self) -> str:
        """ "ok", or "repaired" where something was mended; quality_flags do not count."""
        return "repaired" if self.repairs else "ok"


def pack(signal: Signal) -> Packed:
    """Return the signal's standard leads, of which it has one at least, as int16.

    A lead whose values are multiples of the source's own step keeps every value exactly; otherwise the step is 1/32767 of
    the lead's largest value, an error of at most half of that (0.08 microvolt for 5 millivolts). Leads that are not
    of the standard twelve are left out; one that its name says to be upside down ("-aVR") is turned. Up to 1 % missing (NaN)
    samples are bridged by a line and counted.

    Raises:
        BadRecord: the record cannot be used; its code says why.
    """
    rows, leads, signs, unknown = _standard_leads(signal)
    _check_shape(signal)
    x = np.asarray(signal.millivolts, dtype=np.float64)[rows]  # (L, T)
    turned = min(signs) < 0
    if turned:
        x *= np.array(signs, dtype=np.float64)[:, None]
    low, high = x.min(axis=1), x.max(axis=1)  # (L,)
    missing = 0
    if not np.isfinite(low + high).all():
        missing = _missing(x)
        x = _bridged(x)
        low, high = x.min(axis=1), x.max(axis=1)
    peak = np.maximum(high, -low)
    if peak.max() > MAX_MILLIVOLT:
        raise BadRecord("implausible-amplitude", f"{peak.max():.3g} mV; is the gain right?")
    flat = high - low < FLAT_MILLIVOLT
    if flat.all():
        code = "all-zero" if not x.any() else "flat"
        raise BadRecord(code, f"all {len(flat)} leads are constant" if len(flat) > 1 else "its one lead is constant")
    spans = beat_spans(x, signal.rate_hz)
    largest, middle = float(spans.max()), float(np.median(spans))
    if largest < BEAT_MILLIVOLT[0] or middle > BEAT_MILLIVOLT[1]:
        span = f"{middle:.3g} mV in the middle lead, {largest:.3g} mV in the largest"
        raise BadRecord("implausible-amplitude", f"beats span {span}; is the gain or unit right?")
    steps = peak / LIMIT
    if signal.steps is not None:
        own = np.asarray(signal.steps, dtype=np.float64)[rows]
        usable = np.isfinite(own) & (own > 0)
        usable[usable] = peak[usable] <= LIMIT * own[usable]
        steps = np.where(usable, own, steps)
    values, steps = quantised(x, steps)
    repairs = (*signal.repairs, *(["turned-leads"] if turned else []), *(["bridged-samples"] if missing else []))
    rate_hz = float(signal.rate_hz)
    found = (*signal.quality_flags, *quality_flags(x, values, leads, rate_hz, spans, flat))
    if unknown and len(leads) < len(LEADS):  # a standard lead under a strange name may be among them
        found = (*found, f"unknown-leads: {_shown(unknown)}")
    return Packed(values, steps.astype(np.float32), rate_hz, leads, int(flat.sum()), missing, repairs, found)


def quantised(x: NDArray[np.float64], steps: NDArray[np.float64]) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """Return `x` (L, T) as multiples of `steps` (L,), and the steps, of which none is zero."""
    steps = np.where(steps > 0, steps, 1.0)
    return np.rint(x / steps[:, None]).clip(-LIMIT, LIMIT).astype(np.int16), steps


def beat_spans(x: NDArray[np.float64], rate_hz: float) -> NDArray[np.float64]:
    """Return each lead's millivolts from lowest to highest sample within a second, the median over seconds, (L,).

    A step of the baseline, an artefact or wander over the whole record moves it little.
    """
    width = max(1, round(rate_hz))
    seconds = max(1, x.shape[1] // width)
    blocks = x[:, : seconds * width].reshape(len(x), seconds, -1)
    return np.asarray(np.median(np.ptp(blocks, axis=2), axis=1))


def _standard_leads(signal: Signal) -> tuple[list[int], tuple[str, ...], list[int], list[str]]:
    """Return the rows of the standard leads in the source's order, their canonical names and signs, and the others' names."""
    rows: list[int] = []
    names: list[str] = []
    signs: list[int] = []
    unknown: list[str] = []
    for row, name in enumerate(signal.leads):
        known = known_lead(name)
        if known is None:
            unknown.append(name)
            continue
        lead, sign = known
        if lead in names:
            raise BadRecord("duplicate-lead", f"lead {lead} is there twice: {_shown(signal.leads)}")
        rows.append(row)
        names.append(lead)
        signs.append(sign)
    if not names:
        raise BadRecord("no-known-lead", f"has the leads {_shown(unknown) or 'none'}; known are {', '.join(LEADS)}")
    return rows, tuple(names), signs, unknown


def _shown(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(repr(name[:20]) for name in names[:16])


def _check_shape(signal: Signal) -> None:
    shape = signal.millivolts.shape
    if len(shape) != 2 or shape[0] != len(signal.leads):
        raise BadRecord("wrong-shape", f"samples have the shape {shape} for {len(signal.leads)} leads")
    if not (math.isfinite(signal.rate_hz) and RATES_HZ[0] <= signal.rate_hz <= RATES_HZ[1]):
        raise BadRecord("bad-rate", f"rate {signal.rate_hz!r} Hz; wanted {RATES_HZ[0]:g} to {RATES_HZ[1]:g}")
    if shape[1] < MIN_SECONDS * signal.rate_hz:
        raise BadRecord("too-short", f"{shape[1] / signal.rate_hz:.3g} s; wanted at least {MIN_SECONDS:g} s")


def _missing(x: NDArray[np.float64]) -> int:
    """Return how many samples are missing (NaN), which must be few; none may be infinite."""
    infinite = int(np.isinf(x).sum())
    if infinite:
        raise BadRecord("infinite-samples", f"{infinite} infinite samples")
    missing = int(np.isnan(x).sum())
    if missing > MAX_MISSING * x.size:
        raise BadRecord("missing-samples", f"{missing / x.size:.1%} of the samples are NaN; at most {MAX_MISSING:.0%} may be")
    return missing


def _bridged(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `x` with NaN replaced by the line between its neighbours, per lead; the ends hold the nearest value."""
    bridged = x.copy()
    time = np.arange(x.shape[1])
    for row in bridged:
        good = ~np.isnan(row)
        row[~good] = np.interp(time[~good], time[good], row[good]) if good.any() else 0.0
    return bridged
