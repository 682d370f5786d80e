"""From the dipole to twelve leads: body, electrodes, noise and the recorder.

The dipole is projected to the potentials of nine electrodes (right arm, left arm, left leg, V1-V6) with the matrix of Dower,
Machado, Osborne: On deriving the electrocardiogram from vectorcardiographic leads (1980); its rows for I and II fix the limb
potentials with Wilson's terminal at zero. Noise joins at the electrodes and the recorder filters electrodes, so that
Einthoven's and Goldberger's identities hold in the twelve leads whatever happened before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from melp_plugins.datasets.synthetic.rhythm import MARGIN_S, Array

DOWER = np.array(
    [
        [0.632, -0.235, 0.059],  # I
        [0.235, 1.066, -0.132],  # II
        [-0.515, 0.157, -0.917],  # V1
        [0.044, 0.164, -1.387],
        [0.882, 0.098, -1.277],
        [1.213, 0.127, -0.601],
        [1.125, 0.127, -0.086],
        [0.831, 0.076, 0.230],  # V6
    ]
)
"""Leads I, II, V1-V6 from Frank's X, Y, Z."""

_LIMBS = np.array([[-1.0, -1.0], [2.0, -1.0], [-1.0, 2.0]]) / 3  # RA, LA, LL from I, II with their mean at zero
TORSO: Array = np.concatenate([_LIMBS @ DOWER[:2], DOWER[2:]])
"""Potentials of RA, LA, LL, V1-V6 from X, Y, Z, (9, 3)."""


def _lead_matrix() -> Array:
    """Return the twelve leads from the nine electrodes, (12, 9)."""
    right, left, leg = np.eye(9)[:3]
    terminal = (right + left + leg) / 3
    limb = [left - right, leg - right, leg - left]
    augmented = [right - (left + leg) / 2, left - (right + leg) / 2, leg - (right + left) / 2]
    return np.stack([*limb, *augmented, *(np.eye(9)[3:] - terminal)])


LEADS_FROM_ELECTRODES: Array = _lead_matrix()


@dataclass(frozen=True)
class Recording:
    """How one record was taken: electrodes, noise at them in millivolts, and the recorder's filters in hertz."""

    torso: Array  # (9, 3)
    wander_mv: Array  # (9,) slow drift of the electrodes
    muscle_mv: Array  # (9,)
    mains_mv: Array  # (9,)
    mains_hz: float
    bumps: tuple[tuple[int, float, float, float], ...]  # electrode, time as a share, millivolts, decay in seconds
    high_pass_hz: float
    high_pass_order: int
    low_pass_hz: float
    low_pass_order: int
    notch: bool
    digitising_mv: float  # amplifier and converter, behind the filters


_GAIN = np.array([1.25, 1.25, 1.25, 0.8, 1.35, 1.22, 1.2, 1.1, 1.05])
"""The electrodes of people beside Dower's torso: what brings medians of normal records to those of PTB-XL (folds 1 to 8)."""


def body(rng: np.random.Generator) -> Array:
    """Return one patient's TORSO: the heart turned and the chest shaped, (9, 3)."""
    angle = np.clip(rng.normal(0, 1, 3), -2, 2) * np.radians([9.0, 9.0, 7.0])
    torso = TORSO @ _rotation(angle)
    torso *= _GAIN[:, None]
    torso[3:] *= np.exp(rng.normal(0.0, 0.22))
    return torso


def _rotation(angle: Array) -> Array:
    """Return the rotation by `angle` in radians about X, Y and Z in turn, (3, 3)."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angle), np.sin(angle)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x, dtype=np.float64)


def place(torso: Array, rng: np.random.Generator) -> Array:
    """Return `torso` as one recording's electrodes see it: each precordial one a little off its place and with its own gain."""
    placed = torso.copy()
    shift = np.clip(rng.normal(0, 0.14), -0.3, 0.3) + rng.normal(0, 0.07, 6)
    chest = torso[3:]
    onward = np.diff(chest, axis=0, append=chest[-1:] + 0.5 * (chest[-1:] - chest[-2:-1]))
    back = np.diff(chest, axis=0, prepend=chest[:1] - 0.5 * (chest[1:2] - chest[:1]))
    placed[3:] = chest + np.where(shift[:, None] > 0, shift[:, None] * onward, shift[:, None] * back)
    placed[3:] *= np.exp(rng.normal(0, 0.2, (6, 1)))
    placed[:3] *= np.exp(rng.normal(0, 0.03, (3, 1)))
    placed += rng.normal(0, 0.02, placed.shape)
    return placed


def recording(torso: Array, rng: np.random.Generator) -> Recording:
    """Return one recording of a patient: electrodes placed, noise and filters drawn over wide ranges."""
    quality = rng.normal(0, 0.5)
    num_bumps = int(rng.poisson(0.25))
    return Recording(
        torso=place(torso, rng),
        wander_mv=np.exp(rng.normal(-2.55 + 0.8 * quality, 0.4, 9)),
        muscle_mv=np.clip(np.exp(rng.normal(-4.9 + quality, 0.6) + rng.normal(0, 0.35, 9)), 0.0015, 0.05),
        mains_mv=np.clip(np.exp(rng.normal(-5.0, 1.0) + rng.normal(0, 0.5, 9)), 0.0003, 0.08),
        mains_hz=50.0 if rng.random() < 0.75 else 60.0,
        bumps=tuple(
            (int(rng.integers(9)), float(rng.uniform(0, 1)), float(rng.normal(0, 0.25)), float(rng.uniform(0.05, 0.5)))
            for _ in range(num_bumps)
        ),
        high_pass_hz=float(rng.choice([0.05, 0.15, 0.3, 0.5, 0.67])),
        high_pass_order=int(rng.choice([1, 2])),
        low_pass_hz=float(rng.choice([40.0, 75.0, 100.0, 150.0, 250.0], p=[0.15, 0.1, 0.2, 0.35, 0.2])),
        low_pass_order=int(rng.integers(1, 4)),
        notch=bool(rng.random() < 0.7),
        digitising_mv=float(np.clip(np.exp(rng.normal(-6.6, 0.5)), 0.0004, 0.004)),
    )


def response(taken: Recording, frequency_hz: Array) -> Array:
    """Return the recorder's zero-phase gain: Butterworth magnitudes and, where switched on, a mains notch."""
    ratio = np.maximum(frequency_hz, 1e-6)
    high = 1 / np.sqrt(1 + (taken.high_pass_hz / ratio) ** (2 * taken.high_pass_order))
    low = 1 / np.sqrt(1 + (ratio / taken.low_pass_hz) ** (2 * taken.low_pass_order))
    gain = high * low
    if taken.notch:
        gain = gain * (1 - 0.97 * np.exp(-0.5 * ((frequency_hz - taken.mains_hz) / 0.7) ** 2))
    return np.asarray(gain)


def record(dipole: Array, taken: Recording, seconds: float, rate_hz: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the twelve leads (12, samples) in millivolts of a dipole (N, 3) that starts at -MARGIN_S."""
    num = len(dipole)
    potentials = (taken.torso @ dipole.T).astype(np.float32)  # (9, N)
    potentials += _noise(taken, num, rate_hz, rng)
    frequency: Array = np.fft.rfftfreq(num, 1 / rate_hz).astype(np.float64)
    spectrum = np.fft.rfft(potentials)
    spectrum[:, : np.searchsorted(frequency, 12.0)] += _slow(taken, frequency, num, rng)
    filtered = np.fft.irfft(spectrum * response(taken, frequency).astype(np.float32), num)
    start, samples = round(MARGIN_S * rate_hz), round(seconds * rate_hz)
    kept = filtered[:, start : start + samples].astype(np.float64)
    kept += taken.digitising_mv * rng.standard_normal((9, samples), dtype=np.float32)
    leads = LEADS_FROM_ELECTRODES @ kept
    return np.asarray(leads, dtype=np.float32)


def _noise(taken: Recording, num: int, rate_hz: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return muscle noise that comes and goes, mains hum and movement, (9, num)."""
    time = np.arange(num) / rate_hz
    knots = np.linspace(0, time[-1], 9)
    envelope = np.interp(time, knots, np.exp(rng.normal(-0.15, 0.5, len(knots)))).astype(np.float32)
    density = np.sqrt(rate_hz / 500.0)  # the same power per hertz at every rate
    noise = rng.standard_normal((9, num), dtype=np.float32)
    noise *= (taken.muscle_mv[:, None] * density).astype(np.float32)
    noise *= envelope
    phase = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.4, 9)
    angle = 2 * np.pi * taken.mains_hz * time
    hum = taken.mains_mv[:, None] * np.stack([np.cos(phase), np.sin(phase)], axis=1)  # sin(angle + phase), (9, 2)
    noise += hum.astype(np.float32) @ np.stack([np.sin(angle), np.cos(angle)]).astype(np.float32)
    for electrode, share, height, decay in taken.bumps:
        after = time - share * time[-1]
        noise[electrode] += height * np.where(
            after > 0, np.exp(-np.maximum(after, 0) / decay), np.exp(np.minimum(after, 0) / 0.03)
        )
    return noise


def _slow(taken: Recording, frequency_hz: Array, num: int, rng: np.random.Generator) -> NDArray[np.complex128]:
    """Return baseline wander below 12 Hz as a spectrum: power falls from 0.1 Hz on with the square of the frequency."""
    low = frequency_hz[: np.searchsorted(frequency_hz, 12.0)]
    shape = 1 / (1 + (low / 0.15) ** 2) + 0.02 / (1 + low)
    shape[0] = 0
    shape *= num / 2 / np.sqrt(np.square(shape).sum())
    pair = rng.standard_normal((2, 9, len(low)))
    return np.asarray((pair[0] + 1j * pair[1]) * shape * taken.wander_mv[:, None])
