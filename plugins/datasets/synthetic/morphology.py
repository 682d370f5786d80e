"""Diagnoses to waves: which Gaussians a heart has in health, hypertrophy, block, infarction, ischaemia and pacing.

A heart is drawn by starting from healthy vectors with wide variation and letting each diagnosis change what it changes in
people. Vectors are X left, Y to the feet, Z to the back, in millivolts (see `heart`). Voltage criteria are enforced on the
leads that the electrodes see, so that statements about voltage are true of the record.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from melp_plugins.datasets.synthetic.electrodes import DOWER, LEADS_FROM_ELECTRODES
from melp_plugins.datasets.synthetic.heart import Heart, Waves, joined, qrs_waves, repolarisation
from melp_plugins.datasets.synthetic.rhythm import Array

Part = tuple[float, float, Array]

INFARCT: dict[str, Array] = {
    "AMI": np.array([0.2, 0.0, -1.0]),
    "ASMI": np.array([-0.1, -0.1, -1.0]),
    "ALMI": np.array([0.85, -0.2, -0.55]),
    "IMI": np.array([0.0, 1.0, 0.05]),
    "ILMI": np.array([0.55, 0.8, 0.15]),
}
"""Where the dead muscle lies."""

ISCHAEMIA: dict[str, Array] = {
    "ISC_": np.array([0.7, 0.6, -0.4]),
    "ISCAL": np.array([0.85, 0.05, -0.6]),
    "ISCIN": np.array([0.1, 1.0, 0.0]),
    "ISCLA": np.array([1.0, -0.2, 0.1]),
    "ISCAS": np.array([0.0, 0.0, -1.0]),
}
"""Where the muscle is short of blood."""


@dataclass
class _Sketch:
    """A heart being drawn."""

    axis_deg: float
    size: float  # of the main vector, mV
    q: Array
    a: Array  # apical
    f: Array  # free wall
    s: Array  # basal
    t: Array
    st: Array
    extra: list[Part] = field(default_factory=list)
    q_timing: tuple[float, float] = (0.15, 0.075)
    wide: list[Part] | None = None  # replaces the four parts where conduction is not normal


def _vector(rng: np.random.Generator, x: float, y: float, z: float, spread: float) -> Array:
    return np.array([x, y, z]) + rng.normal(0, spread, 3)


_FRONTAL: Array = np.linalg.inv(np.stack([DOWER[0, :2], DOWER[1, :2] - DOWER[0, :2] / 2]))  # X, Y from leads I, aVF


def _frontal(axis_deg: float, z: float) -> Array:
    """Return a vector of unit length in the frontal plane whose leads I and aVF show `axis_deg`; `z` is added to it."""
    angle = np.radians(axis_deg)
    x, y = _FRONTAL @ np.array([np.cos(angle), np.sqrt(3) / 2 * np.sin(angle)])
    length = float(np.hypot(x, y))
    return np.array([x / length, y / length, z])


def _healthy(rng: np.random.Generator, axis_deg: float, size: float, sex: str) -> _Sketch:
    depth = rng.uniform(0.35, 1.15)
    main = _frontal(axis_deg, depth)
    turn = _frontal(axis_deg + rng.normal(0, 15), -rng.uniform(0.1, 0.65))
    t_size = float(np.clip(np.exp(rng.normal(-1.25 if sex == "M" else -1.4, 0.35)), 0.13, 0.6)) * size**0.4
    t_axis = np.clip(0.5 * axis_deg + rng.normal(22, 12), 8, 68)
    return _Sketch(
        axis_deg=axis_deg,
        size=size,
        q=rng.uniform(0.08, 0.3) * size * _vector(rng, -0.6, -0.2 - 0.4 * np.sin(np.radians(axis_deg)), -0.8, 0.2),
        a=rng.uniform(0.45, 0.75) * size * turn,
        f=size * main,
        s=size * rng.uniform(0.1, 0.5) * _vector(rng, -0.55, -0.45, 0.5, 0.25),
        t=t_size * (_frontal(float(t_axis), -rng.uniform(0.25, 0.9)) + rng.normal(0, 0.06, 3)),
        st=_vector(rng, 0.015, 0.01, -0.02, 0.012),
    )


def _infarct(sketch: _Sketch, code: str, stage: str, rng: np.random.Generator) -> None:
    """Turn the first forces away from the scar; then ST, T by `stage`: acute, recent or old."""
    scar = INFARCT[code] / np.linalg.norm(INFARCT[code])
    sketch.q = -scar * sketch.size * rng.uniform(0.3, 0.65) + rng.normal(0, 0.03, 3)
    sketch.q_timing = (0.2, rng.uniform(0.095, 0.125))
    for name, left in (("a", rng.uniform(-0.25, 0.1)), ("f", rng.uniform(0.2, 0.55))):
        part = getattr(sketch, name)
        toward = max(float(part @ scar), 0.0)
        setattr(sketch, name, part - (1 - left) * toward * scar)
    away = sketch.t - (sketch.t @ scar) * scar
    if stage == "acute":
        sketch.st = scar * rng.uniform(0.2, 0.5)
        sketch.t = 0.7 * away + scar * rng.uniform(0.15, 0.5)
    elif stage == "recent":
        sketch.st = scar * rng.uniform(0.0, 0.08)
        sketch.t = away - scar * rng.uniform(0.2, 0.5)
    else:
        sketch.t = away - scar * rng.uniform(-0.04, 0.1)


def _repolarisation(sketch: _Sketch, diagnoses: frozenset[str], rng: np.random.Generator) -> None:
    """Change ST and T for ischaemia and the non-specific findings."""
    for code, region in ISCHAEMIA.items():
        if code in diagnoses:
            where = region / np.linalg.norm(region)
            if "INVT" in diagnoses:
                sketch.t = 0.5 * (sketch.t - (sketch.t @ where) * where) - where * rng.uniform(0.2, 0.55)
            if "STD_" in diagnoses:
                sketch.st = -where * rng.uniform(0.1, 0.28)
    if "NDT" in diagnoses:
        sketch.t = sketch.t / np.linalg.norm(sketch.t) * rng.uniform(0.01, 0.06)
    if "NST_" in diagnoses:
        up = "STE_" in diagnoses
        where = np.array([0.6, 0.6, -0.5]) + rng.normal(0, 0.1, 3)
        sketch.st = where * (rng.uniform(0.14, 0.3) if up else -rng.uniform(0.1, 0.2))


def _hypertrophy(sketch: _Sketch, diagnoses: frozenset[str], rng: np.random.Generator) -> None:
    if "LVH" in diagnoses:
        sketch.f = sketch.f * rng.uniform(1.4, 1.9) + np.array([0.15, 0, 0.25]) * sketch.size
        if "STD_" in diagnoses:  # strain
            where = np.array([1.0, 0.25, 0.15]) / 1.05
            sketch.st, sketch.t = -where * rng.uniform(0.08, 0.2), -where * rng.uniform(0.12, 0.4) + rng.normal(0, 0.04, 3)
    if "RVH" in diagnoses:
        sketch.q = sketch.size * _vector(rng, 0.1, -0.1, -0.2, 0.05)
        sketch.a = sketch.size * _vector(rng, 0.1, 0.3, -0.4, 0.1)
        sketch.f = 0.8 * sketch.size * _frontal(rng.uniform(108, 150), -rng.uniform(0.4, 0.8))
        sketch.s = sketch.size * _vector(rng, -0.5, 0.0, -0.1, 0.1)
        sketch.t = np.array([0.15, 0.08, rng.uniform(0.15, 0.35)]) + rng.normal(0, 0.04, 3)
        sketch.st = np.array([0.0, 0.0, rng.uniform(0.0, 0.08)])


def _conduction(sketch: _Sketch, diagnoses: frozenset[str], rng: np.random.Generator) -> None:
    size = sketch.size
    if "LAFB" in diagnoses:
        axis = rng.uniform(-78, -50)
        sketch.q = size * rng.uniform(0.15, 0.35) * _vector(rng, -0.4, 0.8, -0.4, 0.12)
        sketch.a = 0.6 * size * _frontal(axis + 80, -rng.uniform(0.2, 0.6))
        sketch.f = 0.7 * size * _frontal(axis, rng.uniform(0.5, 0.9))
        sketch.s = size * rng.uniform(0.6, 1.0) * _vector(rng, -0.2, -0.5, 0.7, 0.15)  # S up to V5: the last forces go back
    if "CLBBB" in diagnoses:
        sketch.wide = [
            (0.14, 0.08, size * _vector(rng, 0.25, 0.1, rng.uniform(-0.2, 0.15), 0.06)),
            (0.40, 0.12, size * _vector(rng, 0.75, 0.15, 1.0, 0.15)),
            (0.62, 0.11, size * _vector(rng, 0.75, 0.05, 1.05, 0.15)),
            (0.82, 0.085, size * _vector(rng, 0.35, -0.05, 0.35, 0.1)),
        ]
        sketch.t = -size * rng.uniform(0.2, 0.4) * _vector(rng, 0.75, 0.1, 1.0, 0.1)
        sketch.st = 0.35 * sketch.t
    if "CRBBB" in diagnoses or "IRBBB" in diagnoses:
        late = size * rng.uniform(0.45, 0.8) * _vector(rng, -0.6, -0.05, -0.75, 0.12)
        first, spread = (0.66, 0.10) if "CRBBB" in diagnoses else (0.80, 0.07)
        share = 0.62 if "CRBBB" in diagnoses else 0.85
        sketch.wide = [
            (0.15 * share, 0.075 * share, sketch.q),
            (0.36 * share, 0.09 * share, sketch.a),
            (0.52 * share, 0.10 * share, sketch.f),
            (first, spread, late * (1 if "CRBBB" in diagnoses else 0.7)),
            (first + 0.13, spread * 0.85, late * (0.6 if "CRBBB" in diagnoses else 0.2)),
        ]
        if "CRBBB" in diagnoses:
            sketch.t = sketch.t - late / np.linalg.norm(late) * rng.uniform(0.15, 0.3)
    if "WPW" in diagnoses:
        delta = size * rng.uniform(0.3, 0.5) * _vector(rng, 0.6, rng.choice([-0.6, 0.5]), rng.choice([-0.8, 0.6]), 0.15)
        sketch.wide = [
            (0.20, 0.095, delta),
            (0.50, 0.10, 0.6 * delta + 0.7 * sketch.f),
            (0.66, 0.08, sketch.f * rng.uniform(0.3, 0.8)),
            (0.85, 0.06, sketch.s),
        ]
        sketch.t = sketch.t - delta * rng.uniform(0.2, 0.7)
    if "PACE" in diagnoses:
        main = _vector(rng, rng.uniform(-0.2, 0.4), -rng.uniform(0.3, 0.8), rng.uniform(0.5, 1.0), 0.12)
        sketch.wide = [
            (0.2, 0.09, size * 0.5 * (main + rng.normal(0, 0.2, 3))),
            (0.45, 0.13, size * main),
            (0.70, 0.12, size * 0.8 * (main + rng.normal(0, 0.2, 3))),
        ]
        sketch.t, sketch.st = -size * rng.uniform(0.25, 0.5) * main, -size * 0.08 * main
    if "IVCD" in diagnoses:
        notch = rng.normal(0, 0.25 * size, (2, 3))
        sketch.extra += [(0.7, 0.06, notch[0]), (0.88, 0.05, notch[1])]


def _ectopic(rng: np.random.Generator, size: float) -> Waves:
    """Return a ventricular ectopic beat: wide, large, from anywhere, with T against it."""
    main = rng.normal(0, 1, 3)
    main *= size * rng.uniform(1.1, 2.0) / np.linalg.norm(main)
    qrs_s = rng.uniform(0.13, 0.18)
    parts = [
        (c, w, k * main + rng.normal(0, 0.25 * size, 3)) for c, w, k in ((0.22, 0.1, 0.4), (0.48, 0.13, 1.0), (0.76, 0.11, 0.5))
    ]
    wave = repolarisation(qrs_s, -0.12 * main, -rng.uniform(0.25, 0.5) * main, left=rng.uniform(0.13, 0.18), right=0.1)
    return joined(qrs_waves(parts, qrs_s), wave)


def _foci(diagnoses: frozenset[str], p_s: float, rng: np.random.Generator) -> tuple[Waves, ...]:
    """Return the P waves of the sinus node and of three other foci, each lasting `p_s` from 0."""
    size = float(np.clip(np.exp(rng.normal(0, 0.3)), 0.5, 1.7))
    right = size * _vector(rng, 0.03, 0.06, -0.04, 0.01)
    left = size * _vector(rng, 0.055, 0.04, 0.025, 0.01)
    if "LAO/LAE" in diagnoses:
        left = _vector(rng, 0.11, 0.07, 0.11, 0.012) * rng.uniform(0.9, 1.3)
    if "RAO/RAE" in diagnoses:
        right = _vector(rng, 0.03, 0.23, -0.08, 0.015) * rng.uniform(1.0, 1.3)
    gap = 0.15 if "LAO/LAE" in diagnoses else rng.uniform(0.05, 0.12)
    foci = [qrs_waves([(0.5 - gap, 0.15, right), (0.5 + gap, 0.15, left)], p_s)]
    for _ in range(3):
        vector = rng.normal(0, 1, 3) * [0.08, 0.1, 0.05]
        foci.append(
            qrs_waves([(0.4, 0.18, vector), (0.6, 0.18, vector + rng.normal(0, 0.03, 3))], p_s * rng.uniform(0.7, 0.95))
        )
    return tuple(foci)


def draw_heart(
    diagnoses: frozenset[str], stage: str, *, axis_deg: float, size: float, sex: str, qrs_s: float, p_s: float,
    torso: Array, rng: np.random.Generator,
) -> Heart:  # fmt: skip
    """Return a heart with `diagnoses`, its voltages such that the leads of `torso` meet what the diagnoses say of them."""
    sketch = _healthy(rng, axis_deg, size, sex)
    _hypertrophy(sketch, diagnoses, rng)
    for code in INFARCT:
        if code in diagnoses:
            _infarct(sketch, code, stage, rng)
    _conduction(sketch, diagnoses, rng)
    _repolarisation(sketch, diagnoses, rng)
    parts: list[Part] = sketch.wide or [
        (*sketch.q_timing, sketch.q),
        (0.38, rng.uniform(0.085, 0.115), sketch.a),
        (0.54, rng.uniform(0.085, 0.12), sketch.f),
        (0.82, rng.uniform(0.065, 0.085), sketch.s),
    ]
    parts = [*parts, *sketch.extra, (rng.uniform(0.3, 0.8), 0.05, rng.normal(0, 0.05 * size, 3))]
    qrs = qrs_waves(parts, qrs_s)
    qrs = qrs.scaled(_voltage_factor(qrs, qrs_s, diagnoses, torso, rng))
    wave = repolarisation(qrs_s, sketch.st, sketch.t, left=rng.uniform(0.12, 0.19), right=rng.uniform(0.075, 0.115))
    shrink = 0.5 if "LVOLT" in diagnoses else 1.0
    spike = rng.normal(0, 1, 3)
    return Heart(
        dominant=joined(qrs, wave.scaled(shrink)),
        ectopic=_ectopic(rng, 0.6 * size if "LVOLT" in diagnoses else size),
        foci=_foci(diagnoses, p_s, rng),
        qrs_s=qrs_s,
        fibrillation=_vector(rng, 0.3, 0.35, -0.9, 0.2),
        flutter=_vector(rng, 0.05, -0.9, -0.5, 0.15),
        spike=spike / np.linalg.norm(spike) * np.exp(rng.normal(0.8, 0.7)),
    )


def _voltage_factor(qrs: Waves, qrs_s: float, diagnoses: frozenset[str], torso: Array, rng: np.random.Generator) -> float:
    """Return the factor that makes low voltage low, left hypertrophy high (Sokolow-Lyon) and everything else neither."""
    time = np.linspace(-0.02, qrs_s + 0.02, 80)
    height = np.exp(-0.5 * ((time[:, None] - qrs.shape[:, 0]) / qrs.shape[:, 2]) ** 2)
    leads = LEADS_FROM_ELECTRODES @ torso @ (height @ qrs.vector).T  # (12, 80)
    limb = float(np.ptp(leads[:6], axis=1).max())
    sokolow = float(max(leads[6].min() * -1, 0) + max(leads[10].max(), leads[11].max()))
    if "LVOLT" in diagnoses:
        return float(rng.uniform(0.24, 0.45)) / limb
    factor = max(1.0, float(rng.uniform(0.6, 0.9)) / limb)
    if "LVH" in diagnoses:
        return max(factor, float(rng.uniform(3.7, 5.0)) / sokolow)
    if not diagnoses & {"RVH", "CLBBB", "WPW", "PACE"} and factor * sokolow > 3.3:
        factor = max(float(rng.uniform(2.4, 3.2)) / sokolow, 0.56 / limb)
    return factor
