"""Hypertrophy and conduction: what large chambers, blocked branches, a second pathway and a pacemaker do to the QRS."""

from __future__ import annotations

import numpy as np

from melp_plugins.datasets.synthetic.drawn_heart import DrawnHeart, Part, frontal, vector


def hypertrophy(sketch: DrawnHeart, diagnoses: frozenset[str], rng: np.random.Generator) -> None:
    """Enlarge what is enlarged."""
    if "LVH" in diagnoses:
        sketch.f = sketch.f * rng.uniform(1.3, 1.9) + np.array([0.15, 0, 0.25]) * sketch.size
        if "ISC_" in diagnoses:  # strain without a finding of its own: T leans away from the large wall
            where = np.array([1.0, 0.25, 0.15]) / 1.05
            sketch.st, sketch.t = -where * rng.uniform(0.04, 0.1), -where * rng.uniform(0.0, 0.2) + rng.normal(0, 0.04, 3)
    if "SEHYP" in diagnoses:  # deep narrow Q waves to the left, tall R to the right
        sketch.q = sketch.size * rng.uniform(0.45, 0.8) * vector(rng, -0.75, -0.45, -0.75, 0.1)
        sketch.q_timing = (0.13, 0.055)
        sketch.f = sketch.f * rng.uniform(1.1, 1.4)
    if "RVH" in diagnoses:
        sketch.q = sketch.size * vector(rng, 0.1, -0.1, -0.2, 0.05)
        sketch.a = sketch.size * vector(rng, 0.1, 0.3, -0.4, 0.1)
        sketch.f = 0.8 * sketch.size * frontal(rng.uniform(104, 150), -rng.uniform(0.2, 0.8))
        sketch.s = sketch.size * vector(rng, -0.5, 0.0, -0.1, 0.1)
        sketch.t = np.array([0.15, 0.08, rng.uniform(0.1, 0.35)]) + rng.normal(0, 0.04, 3)
        sketch.st = np.array([0.0, 0.0, rng.uniform(0.0, 0.08)])


def conduction(sketch: DrawnHeart, diagnoses: frozenset[str], rng: np.random.Generator) -> None:
    """Lead the excitation along another way."""
    if diagnoses & {"CLBBB", "ILBBB"}:
        _left_branch(sketch, "CLBBB" in diagnoses, rng)
    if diagnoses & {"CRBBB", "IRBBB"}:
        _right_branch(sketch, "CRBBB" in diagnoses, rng)
    if "WPW" in diagnoses:
        _second_pathway(sketch, rng)
    if "PACE" in diagnoses:
        _paced(sketch, rng)
    size = sketch.size
    if "IVCD" in diagnoses or ("ABQRS" in diagnoses and rng.random() < 0.5):
        notch = rng.normal(0, 0.25 * size, (2, 3))
        sketch.extra += [(rng.uniform(0.35, 0.7), 0.06, notch[0]), (0.88, 0.05, notch[1])]


def fascicles(sketch: DrawnHeart, diagnoses: frozenset[str], rng: np.random.Generator) -> None:
    """Block a fascicle of the left branch: the axis turns away from what it fed."""
    size = sketch.size
    if "LAFB" in diagnoses:
        axis = rng.uniform(-78, -42)
        sketch.q = size * rng.uniform(0.15, 0.35) * vector(rng, -0.4, 0.8, -0.4, 0.12)
        sketch.a = 0.6 * size * frontal(axis + 80, -rng.uniform(0.2, 0.6))
        sketch.f = 0.7 * size * frontal(axis, rng.uniform(0.5, 0.9))
        sketch.s = size * rng.uniform(0.6, 1.0) * vector(rng, -0.2, -0.5, 0.7, 0.15)  # S up to V5: the last forces go back
    if "LPFB" in diagnoses:
        axis = rng.uniform(96, 125)
        sketch.q = size * rng.uniform(0.15, 0.35) * vector(rng, 0.5, -0.8, -0.4, 0.12)
        sketch.a = 0.5 * size * frontal(axis - 50, -rng.uniform(0.2, 0.6))
        sketch.f = 0.9 * size * frontal(axis, rng.uniform(0.3, 0.8))
        sketch.s = size * rng.uniform(0.2, 0.5) * vector(rng, -0.6, 0.4, 0.4, 0.15)


def _left_branch(sketch: DrawnHeart, complete: bool, rng: np.random.Generator) -> None:
    size, share = sketch.size, 1.0 if complete else 0.6
    sketch.wide = [
        (0.14, 0.08, size * vector(rng, 0.25, 0.1, rng.uniform(-0.2, 0.15), 0.06)),
        (0.40, 0.12, size * vector(rng, 0.75, 0.15, 1.0, 0.15)),
        (0.62, 0.11, size * vector(rng, 0.75, 0.05, 1.05, 0.15)),
        (0.82, 0.085, size * vector(rng, 0.35, -0.05, 0.35, 0.1)),
    ]
    against = -size * rng.uniform(0.2, 0.4) * vector(rng, 0.75, 0.1, 1.0, 0.1)
    sketch.t, sketch.st = share * against + (1 - share) * sketch.t, 0.35 * share * against


def _right_branch(sketch: DrawnHeart, complete: bool, rng: np.random.Generator) -> None:
    late = sketch.size * rng.uniform(0.35, 0.8) * vector(rng, -0.6, -0.05, -0.75, 0.12)
    first, spread = (0.66, 0.10) if complete else (0.84, 0.06)
    share = 0.62 if complete else 0.92
    sketch.wide = [
        (sketch.q_timing[0] * share, sketch.q_timing[1] * share, sketch.q),
        (0.36 * share, 0.09 * share, sketch.a),
        (0.52 * share, 0.10 * share, sketch.f),
        (first, spread, late * (1 if complete else rng.uniform(0.25, 0.7))),
        (first + 0.13, spread * 0.85, late * (0.6 if complete else 0.1)),
    ]
    if complete:
        sketch.t = sketch.t - late / np.linalg.norm(late) * rng.uniform(0.1, 0.3)


def _second_pathway(sketch: DrawnHeart, rng: np.random.Generator) -> None:
    delta = sketch.size * rng.uniform(0.3, 0.5) * vector(rng, 0.6, rng.choice([-0.6, 0.5]), rng.choice([-0.8, 0.6]), 0.15)
    sketch.wide = [
        (0.20, 0.095, delta),
        (0.50, 0.10, 0.6 * delta + 0.7 * sketch.f),
        (0.66, 0.08, sketch.f * rng.uniform(0.3, 0.8)),
        (0.85, 0.06, sketch.s),
    ]
    sketch.t = sketch.t - delta * rng.uniform(0.2, 0.7)


def _paced(sketch: DrawnHeart, rng: np.random.Generator) -> None:
    size = sketch.size
    main = vector(rng, rng.uniform(-0.2, 0.4), -rng.uniform(0.3, 0.8), rng.uniform(0.5, 1.0), 0.12)
    parts: list[Part] = [
        (0.2, 0.08, size * 0.5 * (main + rng.normal(0, 0.2, 3))),
        (0.45, 0.1, size * main),
        (0.72, 0.1, size * 0.8 * (main + rng.normal(0, 0.2, 3))),
    ]
    sketch.wide = parts
    sketch.t, sketch.st = -size * rng.uniform(0.25, 0.5) * main, -size * 0.08 * main
