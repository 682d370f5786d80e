"""When the heart does what: QRS onsets, P onsets and pacing spikes of one record, for every rhythm of the corpus.

Times are seconds from the record's first sample; the schedule reaches beyond both ends of the record, so that its edges are
ordinary. Sinus rhythm follows McSharry et al., A dynamical model for generating synthetic electrocardiogram signals (2003):
a mean interval with respiratory modulation and a slow random part. Fibrillation draws intervals independently; flutter
conducts every n-th saw-tooth.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MARGIN_S = 1.5
"""How far the schedule reaches beyond the record on either side."""

SINUS = frozenset({"SR", "SBRAD", "STACH", "SARRH", "BIGU", "TRIGU"})
"""Rhythms whose dominant beats start in the sinus node."""

RATES_BPM: dict[str, tuple[float, float]] = {
    "SR": (62, 97), "SBRAD": (44, 57.5), "STACH": (103, 150), "SARRH": (62, 95), "BIGU": (62, 95), "TRIGU": (62, 98),
    "AFIB": (52, 150), "AFLT": (60, 165), "SVTAC": (150, 215), "PSVT": (150, 210), "SVARR": (70, 125), "PACE": (58, 85),
}  # fmt: skip
"""The range a record's ventricular rate is drawn from."""


@dataclass(frozen=True)
class Atria:
    """Continuous atrial activity: `kind` "none", "fibrillation" or "flutter", with its cycle length and strength."""

    kind: str = "none"
    cycle_s: float = 0.0
    strength_mv: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """The events of one record, each an array of times in seconds with what belongs to it."""

    qrs_s: Array  # (K,) QRS onsets
    ectopic: NDArray[np.bool_]  # (K,) True for ventricular ectopic beats
    qt_s: Array  # (K,)
    p_s: Array  # (J,) P onsets
    p_kind: NDArray[np.int64]  # (J,) which of the atrial foci
    spikes_s: Array = field(default_factory=lambda: np.zeros(0))
    atria: Atria = field(default_factory=Atria)

    def rate_bpm(self, seconds: float) -> float:
        """Return the mean ventricular rate over a record of `seconds`."""
        inside = self.qrs_s[(self.qrs_s >= 0) & (self.qrs_s < seconds)]
        return 60.0 / float(np.diff(inside).mean())


@dataclass(frozen=True)
class Timing:
    """What a schedule is drawn from: the rhythm, the premature beats, and the intervals in seconds."""

    rhythm: str
    rate_bpm: float
    pr_s: float
    qtc_s: float  # Bazett
    seconds: float
    ectopy: str = ""  # "PAC", "PVC" or "": occasional, or the pattern's own in BIGU and TRIGU
    respiration_hz: float = 0.25


def schedule(timing: Timing, rng: np.random.Generator) -> Schedule:
    """Return the events of one record."""
    if timing.rhythm == "AFIB":
        return _fibrillation(timing, rng)
    if timing.rhythm == "AFLT":
        return _flutter(timing, rng)
    if timing.rhythm in ("SVTAC", "PSVT"):
        return _supraventricular_tachycardia(timing, rng)
    if timing.rhythm == "PACE":
        return _paced(timing, rng)
    if timing.rhythm == "SVARR":
        return _multifocal(timing, rng)
    return _sinus(timing, rng)


def _span(timing: Timing, mean_s: float) -> int:
    """Number of intervals of `mean_s` that surely cover the record with both margins."""
    return int((timing.seconds + 2 * MARGIN_S) / mean_s * 1.5) + 8


def _clip(times: Array, timing: Timing) -> NDArray[np.bool_]:
    return np.asarray((times > -MARGIN_S) & (times < timing.seconds + MARGIN_S))


def _start(rng: np.random.Generator, mean_s: float) -> float:
    return -MARGIN_S - float(rng.uniform(0, mean_s))


def _qt(timing: Timing, rr_s: Array) -> Array:
    """QT of every beat: Bazett on an interval between the record's mean and the beat's own, kept shorter than the beat."""
    mean = 60.0 / timing.rate_bpm
    smooth = np.clip(0.85 * mean + 0.15 * rr_s, 0.25, 1.6)
    return np.asarray(np.minimum(timing.qtc_s * np.sqrt(smooth), 0.95 * np.maximum(rr_s, 0.3)))


def _finish(
    timing: Timing,
    qrs: Array,
    p_lead_s: Array,
    *,
    p_kind: NDArray[np.int64] | None = None,
    ectopic: NDArray[np.bool_] | None = None,
    spikes_s: Array | None = None,
    atria: Atria | None = None,
) -> Schedule:
    """Cut the events to the record with its margins; a P wave precedes its QRS by `p_lead_s`, NaN for none."""
    rr = np.diff(qrs, append=qrs[-1] + 60.0 / timing.rate_bpm)
    keep = _clip(qrs, timing)
    has_p = keep & np.isfinite(p_lead_s)
    spikes = np.zeros(0) if spikes_s is None else spikes_s
    return Schedule(
        qrs_s=qrs[keep],
        ectopic=np.zeros(int(keep.sum()), dtype=bool) if ectopic is None else ectopic[keep],
        qt_s=_qt(timing, rr)[keep],
        p_s=(qrs - p_lead_s)[has_p],
        p_kind=np.zeros(int(has_p.sum()), dtype=np.int64) if p_kind is None else p_kind[has_p],
        spikes_s=spikes[_clip(spikes, timing)],
        atria=atria or Atria(),
    )


def _premature(timing: Timing, times: Array, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which beats come early: every second, every third, or one to three of the beats well inside the record."""
    early = np.zeros(len(times), dtype=bool)
    if timing.rhythm in ("BIGU", "TRIGU"):
        every = 2 if timing.rhythm == "BIGU" else 3
        early[int(rng.integers(1, every + 1)) :: every] = True
    elif timing.ectopy:
        inside = np.flatnonzero((times > 0.15 * timing.seconds) & (times < 0.85 * timing.seconds))
        wanted = int(rng.integers(1, 4))
        for beat in rng.permutation(inside):
            if not early[beat - 2 : beat + 3].any():
                early[beat] = True
            if early.sum() == wanted:
                break
    return early


def _sinus(timing: Timing, rng: np.random.Generator) -> Schedule:
    mean = 60.0 / timing.rate_bpm
    n = _span(timing, mean)
    depth = rng.uniform(0.12, 0.28) if timing.rhythm == "SARRH" else rng.uniform(0.0, 0.07)
    drift = np.cumsum(rng.normal(0, 0.004, n))
    breath = np.sin(2 * np.pi * timing.respiration_hz * mean * np.arange(n) + rng.uniform(0, 2 * np.pi))
    rr = mean * (1 + depth * breath + 0.5 * (drift - drift.mean()) + rng.normal(0, 0.008, n))
    start = _start(rng, mean)
    early = _premature(timing, start + np.cumsum(rr), rng)
    ventricular = timing.ectopy == "PVC"
    coupling = np.clip(rng.uniform(0.52, 0.72) + rng.normal(0, 0.012, n), 0.36 / mean, 0.85)
    after = (2 - coupling) if ventricular else rng.uniform(1.0, 1.12, n)
    rr[early] *= coupling[early]
    rr[1:][early[:-1]] *= after[:-1][early[:-1]]
    lead = timing.pr_s + rng.normal(0, 0.003, n)
    lead[early] = np.nan if ventricular else timing.pr_s * rng.uniform(0.88, 1.08)
    return _finish(timing, start + np.cumsum(rr), lead, p_kind=early.astype(np.int64), ectopic=early if ventricular else None)


def _fibrillation(timing: Timing, rng: np.random.Generator) -> Schedule:
    mean = 60.0 / timing.rate_bpm
    n = _span(timing, mean)
    spread = rng.uniform(0.16, 0.30)
    rr = np.maximum(mean * np.exp(rng.normal(-(spread**2) / 2, spread, n)), 0.30)
    times = _start(rng, mean) + np.cumsum(rr)
    ectopic = _premature(timing, times, rng)
    return _finish(timing, times, np.full(n, np.nan), ectopic=ectopic, atria=_fibrillating(rng))


def _fibrillating(rng: np.random.Generator) -> Atria:
    """Return f waves of 270 to 480 per minute, from hardly visible to coarse."""
    return Atria("fibrillation", 1 / rng.uniform(4.5, 8.0), float(np.clip(np.exp(rng.normal(-2.9, 0.65)), 0.01, 0.25)))


def _flutter(timing: Timing, rng: np.random.Generator) -> Schedule:
    """Conduct every second, third or fourth saw-tooth, or a mixture; the cycle follows from rate and ratio, 240-340/min."""
    ratio = max(2, round(rng.uniform(250, 320) / timing.rate_bpm))
    cycle = 60.0 / float(np.clip(timing.rate_bpm * ratio, 240, 335))
    n = _span(timing, cycle * ratio)
    ratios = np.full(n, ratio)
    if rng.random() < 0.3:
        ratios = np.maximum(2, ratio + rng.integers(-1, 2, n))
    times = _start(rng, cycle) + cycle * np.cumsum(ratios) + rng.normal(0, 0.003, n)
    atria = Atria("flutter", cycle, float(np.clip(np.exp(rng.normal(-1.9, 0.35)), 0.07, 0.35)))
    return _finish(timing, times, np.full(n, np.nan), atria=atria)


def _supraventricular_tachycardia(timing: Timing, rng: np.random.Generator) -> Schedule:
    """A regular fast narrow rhythm without sinus P waves; a paroxysm (PSVT) starts or stops within the record."""
    fast = 60.0 / timing.rate_bpm
    n = _span(timing, fast)
    rr = fast * (1 + rng.normal(0, 0.004, n))
    lead = np.full(n, np.nan)
    if rng.random() < 0.5:
        lead[:] = -rng.uniform(0.08, 0.13)  # retrograde P behind the QRS
    kind = np.ones(n, dtype=np.int64)
    if timing.rhythm == "PSVT":
        slow = 60.0 / rng.uniform(66, 98)
        switch = rng.uniform(0.3, 0.7) * timing.seconds
        if rng.random() < 0.5:  # sinus first
            num = int((switch + MARGIN_S) / slow) + 2
            is_sinus = np.arange(n) < num
        else:
            num = int((switch + MARGIN_S) / fast) + 2
            is_sinus = np.arange(n) >= num
        rr = np.where(is_sinus, slow * (1 + rng.normal(0, 0.015, n)), rr)
        if not is_sinus[0]:
            rr[min(num, n - 1)] = slow * rng.uniform(1.1, 1.5)
        lead = np.where(is_sinus, timing.pr_s, lead)
        kind = np.where(is_sinus, 0, kind)
    return _finish(timing, _start(rng, fast) + np.cumsum(rr), lead, p_kind=kind)


def _paced(timing: Timing, rng: np.random.Generator) -> Schedule:
    """Ventricular pacing at a constant rate: behind a sinus P, behind a paced P, or over fibrillating atria."""
    mean = 60.0 / timing.rate_bpm
    n = _span(timing, mean)
    times = _start(rng, mean) + mean * np.arange(1, n + 1) + rng.normal(0, 0.0008, n)
    mode = rng.choice(3, p=[0.5, 0.12, 0.38])
    delay = rng.uniform(0.13, 0.2)
    lead = np.full(n, np.nan if mode == 2 else delay)
    spikes = times - 0.004
    if mode == 1:
        spikes = np.concatenate([spikes, times - delay - 0.006])
    atria = _fibrillating(rng) if mode == 2 else Atria()
    return _finish(timing, times, lead, spikes_s=spikes, atria=atria)


def _multifocal(timing: Timing, rng: np.random.Generator) -> Schedule:
    """Wandering atrial foci: three or four P shapes, each with its PR, irregular intervals."""
    mean = 60.0 / timing.rate_bpm
    n = _span(timing, mean)
    rr = mean * np.clip(1 + rng.normal(0, rng.uniform(0.1, 0.2), n), 0.6, 1.6)
    kind = rng.integers(0, 4, n)
    pr = timing.pr_s * rng.uniform(0.8, 1.15, 4)
    return _finish(timing, _start(rng, mean) + np.cumsum(rr), pr[kind], p_kind=kind)
