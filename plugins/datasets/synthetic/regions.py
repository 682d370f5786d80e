"""Scars, ischaemia, injury and the other changes of ST and T: what each does to a heart that is being drawn.

A region is the direction from the heart's centre to the muscle that it means. A scar turns the first forces away from itself
and takes those toward it; injury of the whole wall draws ST toward the region, injury of its inner layer pushes ST away, and
ischaemia turns T away (textbook vectorcardiography). Sizes are drawn from slight to large: most are slight.
"""

from __future__ import annotations

import numpy as np

from melp_plugins.datasets.synthetic.diagnoses import ISCHAEMIAS
from melp_plugins.datasets.synthetic.drawn_heart import DrawnHeart, vector
from melp_plugins.datasets.synthetic.rhythm import Array

INFARCT: dict[str, Array] = {
    "AMI": np.array([0.25, 0.0, -1.0]),
    "ASMI": np.array([-0.1, -0.1, -1.0]),
    "ALMI": np.array([0.85, -0.15, -0.6]),
    "IMI": np.array([-0.3, 1.0, 0.05]),
    "ILMI": np.array([0.6, 0.8, 0.1]),
    "LMI": np.array([0.95, -0.45, 0.25]),
    "PMI": np.array([0.15, 0.1, 1.0]),
    "IPMI": np.array([0.0, 0.85, 0.7]),
    "IPLMI": np.array([0.6, 0.75, 0.6]),
    "ANEUR": np.array([0.25, 0.0, -1.0]),
}
"""Where the dead muscle lies."""

REGIONS: dict[str, Array] = {
    "ISC_": np.array([0.75, 0.45, -0.35]),
    "ISCAL": np.array([0.85, 0.05, -0.6]),
    "ISCIN": np.array([0.1, 1.0, 0.0]),
    "ISCIL": np.array([0.75, 0.75, 0.1]),
    "ISCLA": np.array([1.0, -0.3, 0.15]),
    "ISCAS": np.array([0.0, 0.0, -1.0]),
    "ISCAN": np.array([0.45, 0.0, -1.0]),
    "INJAS": np.array([0.0, 0.0, -1.0]),
    "INJAL": np.array([0.85, 0.05, -0.6]),
    "INJIN": np.array([0.1, 1.0, 0.0]),
    "INJLA": np.array([1.0, -0.3, 0.15]),
    "INJIL": np.array([0.75, 0.75, 0.1]),
}
"""Where muscle is short of blood."""

_LATERAL = np.array([0.75, 0.3, -0.3])


def unit(direction: Array) -> Array:
    """Return `direction` (3,) of length one."""
    return np.asarray(direction / np.linalg.norm(direction), dtype=np.float64)


def infarct(sketch: DrawnHeart, code: str, stage: str, rng: np.random.Generator) -> None:
    """Turn the first forces away from the scar; then ST, T by `stage`: acute, recent or old."""
    scar = unit(INFARCT[code] + rng.normal(0, 0.12, 3))
    extent = rng.uniform(0.6 if code == "PMI" else 0.2, 1.0)  # less of a posterior scar is not seen from the front
    sketch.q = -scar * sketch.size * (0.08 + 0.4 * extent) * rng.uniform(0.8, 1.2) + rng.normal(0, 0.03, 3)
    sketch.q_timing = (0.2, rng.uniform(0.085, 0.125))
    for name, left in (("a", 0.3 - 0.5 * extent), ("f", 0.85 - 0.6 * extent)):
        part = getattr(sketch, name)
        toward = max(float(part @ scar), 0.0)
        setattr(sketch, name, part - (1 - left) * toward * scar)
    if float(scar[2]) < 0.3:  # hearts with scars lie further to the back: S waves up to V4
        sketch.f = sketch.f + np.array([-0.1, 0.0, 1.0]) * sketch.size * (
            rng.uniform(0.0, 0.5) - 0.5 * float(min(scar[2], 0.0))
        )
    away = sketch.t - (sketch.t @ scar) * scar
    if stage == "acute":
        sketch.st = scar * rng.uniform(0.1, 0.45)
        sketch.t = 0.7 * away + scar * rng.uniform(0.15, 0.5)
    elif stage == "recent":
        sketch.st = scar * rng.uniform(0.0, 0.08)
        sketch.t = away - scar * rng.uniform(0.1, 0.45)
    else:
        sketch.t = away + scar * rng.uniform(-0.12, 0.15)


def st_and_t(sketch: DrawnHeart, diagnoses: frozenset[str], stage: str, rng: np.random.Generator) -> None:
    """Change ST and T as the diagnoses and findings say."""
    where = _place(diagnoses, rng)
    if "ANEUR" in diagnoses:
        infarct(sketch, "ANEUR", "old", rng)
        sketch.st, sketch.t = where * rng.uniform(0.12, 0.3), sketch.t - where * rng.uniform(0.0, 0.25)
    if diagnoses & {"NDT", "NT_", "TAB_"}:  # flat, or a little turned, in some of the leads
        sketch.t = sketch.t * rng.uniform(0.1, 0.5) - unit(_LATERAL + rng.normal(0, 0.45, 3)) * rng.uniform(-0.03, 0.13)
    if diagnoses & ISCHAEMIAS and not diagnoses & {"INVT", "STD_"}:
        sketch.t = sketch.t - ((sketch.t @ where) + rng.uniform(0.0, 0.12)) * where
        sketch.st = -where * rng.uniform(0.02, 0.07)
    if "NST_" in diagnoses:
        sketch.st = unit(_LATERAL + rng.normal(0, 0.3, 3)) * -rng.uniform(0.04, 0.1)
    if "EL" in diagnoses:
        _electrolytes(sketch, rng)
    if "LOWT" in diagnoses:
        sketch.t = unit(sketch.t + rng.normal(0, 0.05, 3)) * rng.uniform(0.02, 0.11)
    if "INVT" in diagnoses and not stage:
        sketch.t = 0.5 * (sketch.t - (sketch.t @ where) * where) - where * rng.uniform(0.1, 0.42)
    if "DIG" in diagnoses:  # ST sags into a short low T
        sketch.st, sketch.t = -where * rng.uniform(0.07, 0.17), 0.55 * sketch.t + where * rng.uniform(-0.08, 0.04)
    if diagnoses & {"STD_", "INJAS", "INJAL", "INJIN", "INJLA", "INJIL"}:
        deep = 0.26 if any(code.startswith("INJ") for code in diagnoses) else 0.19
        sketch.st = -where * rng.uniform(0.06, deep)
        if "INVT" not in diagnoses:
            sketch.t = sketch.t - 0.4 * (sketch.t @ where) * where
    if "STE_" in diagnoses and not stage and "ANEUR" not in diagnoses:
        sketch.st = vector(rng, 0.55, 0.45, -0.7, 0.15) * rng.uniform(0.09, 0.26)


def _place(diagnoses: frozenset[str], rng: np.random.Generator) -> Array:
    """Return the direction of the region that ST and T speak of: the diagnosis' own, or left and forward."""
    named = [REGIONS[code] for code in sorted(diagnoses) if code in REGIONS and not (code == "ISC_" and "LVH" in diagnoses)]
    if named:
        return unit(named[0] + rng.normal(0, 0.12, 3))
    if "ANEUR" in diagnoses:
        return unit(INFARCT["ANEUR"] + rng.normal(0, 0.12, 3))
    strain = np.array([1.0, 0.3, 0.1])
    return unit((strain if diagnoses & {"LVH", "SEHYP"} else _LATERAL) + rng.normal(0, 0.2, 3))


def _electrolytes(sketch: DrawnHeart, rng: np.random.Generator) -> None:
    """Draw too little potassium (low T, a U wave, sagging ST) or too much (tall narrow T)."""
    if rng.random() < 0.6:
        sketch.u = unit(sketch.t) * rng.uniform(0.06, 0.2)
        sketch.t, sketch.st = sketch.t * rng.uniform(0.15, 0.5), -unit(sketch.t) * rng.uniform(0.0, 0.1)
    else:
        sketch.t, sketch.t_width = unit(sketch.t) * rng.uniform(0.55, 1.0), rng.uniform(0.5, 0.7)


def questionable_q(sketch: DrawnHeart, rng: np.random.Generator) -> None:
    """Turn the first forces as a small scar would, with T as it was: Q waves or a QRS that nobody calls an infarct."""
    scar = unit(INFARCT[str(rng.choice(["IMI", "ASMI", "ALMI", "LMI"]))] + rng.normal(0, 0.2, 3))
    sketch.q = -scar * sketch.size * rng.uniform(0.15, 0.4)
    sketch.q_timing = (0.18, rng.uniform(0.075, 0.11))
