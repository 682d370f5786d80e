"""The cardiac dipole: every wave of the cycle a Gaussian with a direction in space.

Papers: McSharry, Clifford, Tarassenko, Smith: A dynamical model for generating synthetic electrocardiogram signals (2003);
Sameni, Clifford, Jutten, Shamsollahi: Multichannel ECG and noise modeling (2007), which puts the Gaussians on the three
components of the dipole. Written from the papers; differs in anchoring the waves to the QRS onset, so that PR, QRS and QT
are parameters, in two widths per wave, and in the vectors, which follow textbook vectorcardiography.
Axes (Frank): X to the left, Y to the feet, Z to the back; millivolts. E events, M waves, W samples of a window, N samples.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from melp_plugins.datasets.synthetic.rhythm import MARGIN_S, Array, Atria, Schedule

EDGE = 2.2
"""A Gaussian starts and ends this many widths from its centre; 9 % of its height."""


@dataclass(frozen=True)
class Waves:
    """The waves of one event. A centre or width is a time plus a share of the beat's QT."""

    shape: Array  # (M, 6): centre, centre per QT, left width, left per QT, right width, right per QT
    vector: Array  # (M, 3): peak in millivolts along X, Y, Z

    def scaled(self, factor: float) -> Waves:
        """Return the waves `factor` times as high."""
        return Waves(self.shape, self.vector * factor)


@dataclass(frozen=True)
class Heart:
    """What one record's heart does at each event: normal and ectopic ventricular beats, and atrial foci."""

    dominant: Waves
    ectopic: Waves
    foci: tuple[Waves, ...]
    qrs_s: float
    fibrillation: Array = field(default_factory=lambda: np.array([0.3, 0.35, -1.0]))  # direction of f waves
    flutter: Array = field(default_factory=lambda: np.array([0.1, -1.0, -0.45]))
    spike: Array = field(default_factory=lambda: np.zeros(3))


def qrs_waves(parts: list[tuple[float, float, Array]], qrs_s: float) -> Waves:
    """Return QRS waves, given as (centre, width, vector) on any axis, stretched to last from 0 to `qrs_s`."""
    centre = np.array([p[0] for p in parts])
    width = np.array([p[1] for p in parts])
    start, end = (centre - EDGE * width).min(), (centre + EDGE * width).max()
    scale = qrs_s / (end - start)
    shape = np.zeros((len(parts), 6))
    shape[:, 0] = (centre - start) * scale
    shape[:, 2] = shape[:, 4] = width * scale
    return Waves(shape, np.stack([p[2] for p in parts]))


def repolarisation(qrs_s: float, st: Array, t: Array, *, left: float, right: float) -> Waves:
    """Return an ST shift `st` that runs into a T wave `t`; the T wave ends at QT."""
    shape = np.array(
        [
            [qrs_s + 0.015, 0.0, 0.018, 0.0, 0.0, 0.22],
            [0.0, 1 - EDGE * right, 0.0, left, 0.0, right],
        ]
    )
    return Waves(shape, np.stack([st, t]))


def joined(*parts: Waves) -> Waves:
    """Return all waves as one event's."""
    return Waves(np.concatenate([p.shape for p in parts]), np.concatenate([p.vector for p in parts]))


def render(waves: Waves, times_s: Array, qt_s: Array, gain: Array, out: Array, rate_hz: float) -> None:
    """Add the waves at every event to `out` (N, 3), whose first sample is at -MARGIN_S; `gain` is (E, 3)."""
    if not len(times_s):
        return
    shape = waves.shape
    centre = shape[:, 0] + shape[:, 1] * qt_s[:, None]  # (E, M)
    left = shape[:, 2] + shape[:, 3] * qt_s[:, None]
    right = shape[:, 4] + shape[:, 5] * qt_s[:, None]
    low = float((centre - 3.5 * left).min())
    window = int((float((centre + 3.5 * right).max()) - low) * rate_hz) + 2
    first = np.floor((times_s + low + MARGIN_S) * rate_hz).astype(np.int64)  # (E,)
    grid = (first[:, None] + np.arange(window)) / rate_hz - MARGIN_S - times_s[:, None]  # (E, W)
    away = (grid[:, None, :] - centre[:, :, None]).astype(np.float32)  # (E, M, W)
    width = np.where(away < 0, left[:, :, None], right[:, :, None]).astype(np.float32)
    height = np.exp(-0.5 * np.square(away / width))
    dipole = np.matmul(height.transpose(0, 2, 1), waves.vector.astype(np.float32)) * gain[:, None, :]  # (E, W, 3)
    for start, beat in zip(first, dipole, strict=True):
        a, b = max(start, 0), min(start + window, len(out))
        if a < b:
            out[a:b] += beat[a - start : b - start]


def dipole(heart: Heart, events: Schedule, num: int, rate_hz: float, rng: np.random.Generator) -> Array:
    """Return the dipole (num, 3) in millivolts from -MARGIN_S on; beats vary a little with breathing and by chance."""
    out = np.zeros((num, 3))
    breath = np.sin(2 * np.pi * rng.uniform(0.15, 0.35) * events.qrs_s + rng.uniform(0, 2 * np.pi))
    gain = 1 + breath[:, None] * rng.normal(0, 0.035, 3) + rng.normal(0, 0.012, (len(breath), 3))
    for waves, chosen in ((heart.dominant, ~events.ectopic), (heart.ectopic, events.ectopic)):
        render(waves, events.qrs_s[chosen], events.qt_s[chosen], gain[chosen], out, rate_hz)
    for kind, focus in enumerate(heart.foci):
        times = events.p_s[events.p_kind == kind]
        render(focus, times, np.ones(len(times)), 1 + rng.normal(0, 0.05, (len(times), 3)), out, rate_hz)
    if len(events.spikes_s):
        spike = Waves(np.array([[0.0, 0.0, 0.0009, 0.0, 0.0009, 0.0]]), heart.spike[None])
        render(spike, events.spikes_s, np.ones(len(events.spikes_s)), np.ones((len(events.spikes_s), 3)), out, rate_hz)
    if events.atria.kind != "none":
        out += _atria(heart, events, num, rate_hz, rng)
    return out


def _atria(heart: Heart, events: Schedule, num: int, rate_hz: float, rng: np.random.Generator) -> Array:
    """Return f waves or a flutter saw-tooth, (num, 3)."""
    atria: Atria = events.atria
    time = np.arange(num) / rate_hz - MARGIN_S
    if atria.kind == "flutter":
        phase = np.mod((time - events.qrs_s[0]) / atria.cycle_s + rng.uniform(0, 1), 1.0)
        rise = rng.uniform(0.6, 0.8)  # a slow limb and a fast one
        tooth = np.where(phase < rise, phase / rise, (1 - phase) / (1 - rise)) - 0.5
        soft = np.sin(2 * np.pi * phase) * 0.5
        share = rng.uniform(0.5, 1.0)
        return np.asarray((share * tooth + (1 - share) * soft)[:, None] * (2 * atria.strength_mv * heart.flutter))
    out = np.zeros((num, 3))
    for _ in range(3):
        knots = np.linspace(time[0], time[-1], 2 + int(2 * (time[-1] - time[0])))
        frequency = np.interp(time, knots, rng.normal(1, 0.12, len(knots))) / atria.cycle_s * rng.uniform(0.85, 1.15)
        strength = np.interp(time, knots, np.abs(rng.normal(0.6, 0.35, len(knots))))
        phase = 2 * np.pi * (np.cumsum(frequency) / rate_hz + rng.uniform(0, 1))
        wave = strength * (np.sin(phase) + 0.35 * np.sin(2 * phase + rng.uniform(0, 6.3)))
        out += wave[:, None] * (0.55 * atria.strength_mv * (heart.fibrillation + rng.normal(0, 0.25, 3)))
    return out
