"""Diagnoses to waves: which Gaussians a heart has in health, hypertrophy, block, infarction, ischaemia and pacing.

A heart is drawn by starting from healthy vectors with wide variation (`drawn_heart`) and letting each diagnosis change what it
changes in people (`conduction`, `regions`). Voltage criteria are enforced on the leads that the electrodes see, so that
statements about voltage are true of the record.
"""

from __future__ import annotations

import numpy as np

from melp_plugins.datasets.synthetic.conduction import conduction, fascicles, hypertrophy
from melp_plugins.datasets.synthetic.diagnoses import INFARCTS
from melp_plugins.datasets.synthetic.drawn_heart import DrawnHeart, Part, healthy, vector
from melp_plugins.datasets.synthetic.electrodes import LEADS_FROM_ELECTRODES
from melp_plugins.datasets.synthetic.heart import Heart, Waves, joined, qrs_waves, repolarisation
from melp_plugins.datasets.synthetic.regions import infarct, questionable_q, st_and_t
from melp_plugins.datasets.synthetic.rhythm import Array


def _ectopic(rng: np.random.Generator, size: float) -> Waves:
    """Return a ventricular ectopic beat: wide, large, from anywhere, with T against it."""
    main = rng.normal(0, 1, 3)
    main *= size * rng.uniform(1.4, 2.3) / np.linalg.norm(main)
    qrs_s = rng.uniform(0.13, 0.18)
    parts = [
        (c, w, k * main + rng.normal(0, 0.25 * size, 3)) for c, w, k in ((0.22, 0.1, 0.4), (0.48, 0.13, 1.0), (0.76, 0.11, 0.5))
    ]
    wave = repolarisation(qrs_s, -0.12 * main, -rng.uniform(0.25, 0.5) * main, left=rng.uniform(0.13, 0.18), right=0.1)
    return joined(qrs_waves(parts, qrs_s), wave)


def _foci(diagnoses: frozenset[str], p_s: float, rng: np.random.Generator) -> tuple[Waves, ...]:
    """Return the P waves of the sinus node and of three other foci, each lasting `p_s` from 0."""
    size = float(np.clip(np.exp(rng.normal(-0.4, 0.3)), 0.4, 1.2))
    right = size * vector(rng, 0.03, 0.06, -0.04, 0.01)
    left = size * vector(rng, 0.055, 0.04, 0.025, 0.01)
    if "LAO/LAE" in diagnoses:
        left = vector(rng, 0.11, 0.07, 0.11, 0.012) * rng.uniform(0.9, 1.3)
    if "RAO/RAE" in diagnoses:
        right = vector(rng, 0.03, 0.23, -0.08, 0.015) * rng.uniform(1.0, 1.3)
    gap = 0.15 if "LAO/LAE" in diagnoses else rng.uniform(0.05, 0.12)
    foci = [qrs_waves([(0.5 - gap, 0.15, right), (0.5 + gap, 0.15, left)], p_s)]
    for _ in range(3):
        focus = rng.normal(0, 1, 3) * [0.08, 0.1, 0.05]
        foci.append(qrs_waves([(0.4, 0.18, focus), (0.6, 0.18, focus + rng.normal(0, 0.03, 3))], p_s * rng.uniform(0.7, 0.95)))
    return tuple(foci)


def draw_heart(
    diagnoses: frozenset[str], stage: str, *, axis_deg: float, size: float, sex: str, qrs_s: float, p_s: float,
    torso: Array, rng: np.random.Generator,
) -> Heart:  # fmt: skip
    """Return a heart with `diagnoses`, its voltages such that the leads of `torso` meet what the diagnoses say of them."""
    sketch = _drawn(diagnoses, stage, axis_deg=axis_deg, size=size, sex=sex, rng=rng)
    parts: list[Part] = sketch.wide or [
        (*sketch.q_timing, sketch.q),
        (0.36, rng.uniform(0.06, 0.1), sketch.a),
        (0.53, rng.uniform(0.058, 0.09), sketch.f),
        (0.81, rng.uniform(0.075, 0.095), sketch.s),
    ]
    parts = [*parts, *sketch.extra, (rng.uniform(0.3, 0.8), 0.06, rng.normal(0, 0.04 * size, 3))]
    qrs = qrs_waves(parts, qrs_s)
    qrs = qrs.scaled(_voltage_factor(qrs, qrs_s, diagnoses, torso, rng))
    left, right = sketch.t_width * rng.uniform(0.12, 0.19), sketch.t_width * rng.uniform(0.075, 0.115)
    wave = repolarisation(qrs_s, sketch.st, sketch.t, left=left, right=right)
    if sketch.u is not None:
        wave = joined(wave, Waves(np.array([[0.0, 1.12, 0.0, 0.06, 0.0, 0.08]]), sketch.u[None]))
    spike = rng.normal(0, 1, 3)
    return Heart(
        dominant=joined(qrs, wave.scaled(0.5 if "LVOLT" in diagnoses else 1.0)),
        ectopic=_ectopic(rng, 0.6 * size if "LVOLT" in diagnoses else size),
        foci=_foci(diagnoses, p_s, rng),
        qrs_s=qrs_s,
        fibrillation=vector(rng, 0.3, 0.35, -0.9, 0.2),
        flutter=vector(rng, 0.05, -0.9, -0.5, 0.15),
        spike=spike / np.linalg.norm(spike) * np.exp(rng.normal(0.2, 0.7)),
    )


def _drawn(
    diagnoses: frozenset[str], stage: str, *, axis_deg: float, size: float, sex: str, rng: np.random.Generator
) -> DrawnHeart:
    """Return the vectors of a heart with `diagnoses`."""
    sketch = healthy(rng, axis_deg, size, sex)
    hypertrophy(sketch, diagnoses, rng)
    fascicles(sketch, diagnoses, rng)
    for code in sorted(diagnoses & INFARCTS):
        infarct(sketch, code, stage, rng)
    if diagnoses & {"QWAVE", "ABQRS"} and not diagnoses & INFARCTS:
        questionable_q(sketch, rng)
    conduction(sketch, diagnoses, rng)
    st_and_t(sketch, diagnoses, stage, rng)
    return sketch


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
    if diagnoses & {"LVH", "VCLVH", "HVOLT"}:
        return max(factor, float(rng.uniform(3.7, 5.0)) / sokolow)
    if not diagnoses & {"RVH", "CLBBB", "WPW", "PACE"} and factor * sokolow > 3.3:
        factor = max(float(rng.uniform(2.4, 3.2)) / sokolow, 0.56 / limb)
    return factor
