"""A heart that is being drawn: the vectors of its QRS and T in health, which diagnoses then change.

Vectors are X left, Y to the feet, Z to the back, in millivolts (see `heart`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from melp_plugins.datasets.synthetic.electrodes import DOWER
from melp_plugins.datasets.synthetic.rhythm import Array

Part = tuple[float, float, Array]
"""A wave of the QRS: centre and width on any axis, and its vector."""


@dataclass
class DrawnHeart:
    """A heart that is being drawn."""

    axis_deg: float
    size: float  # of the main vector, mV
    q: Array
    a: Array  # apical
    f: Array  # free wall
    s: Array  # basal
    t: Array
    st: Array
    extra: list[Part] = field(default_factory=list)
    q_timing: tuple[float, float] = (0.17, 0.09)
    wide: list[Part] | None = None  # replaces the four parts where conduction is not normal
    t_width: float = 1.0  # of the usual
    u: Array | None = None


def vector(rng: np.random.Generator, x: float, y: float, z: float, spread: float) -> Array:
    """Return a vector near (x, y, z)."""
    return np.array([x, y, z]) + rng.normal(0, spread, 3)


_FRONTAL: Array = np.linalg.inv(np.stack([DOWER[0, :2], DOWER[1, :2] - DOWER[0, :2] / 2]))  # X, Y from leads I, aVF


def frontal(axis_deg: float, z: float) -> Array:
    """Return a vector of unit length in the frontal plane whose leads I and aVF show `axis_deg`; `z` is added to it."""
    angle = np.radians(axis_deg)
    x, y = _FRONTAL @ np.array([np.cos(angle), np.sqrt(3) / 2 * np.sin(angle)])
    length = float(np.hypot(x, y))
    return np.array([x / length, y / length, z])


def healthy(rng: np.random.Generator, axis_deg: float, size: float, sex: str) -> DrawnHeart:
    """Return a healthy heart, its vectors widely varied."""
    depth = rng.uniform(0.45, 1.3)
    main = frontal(axis_deg, depth)
    turn = frontal(axis_deg + rng.normal(0, 15), -rng.uniform(0.1, 0.65))
    t_size = float(np.clip(np.exp(rng.normal(-1.33 if sex == "M" else -1.48, 0.35)), 0.13, 0.6)) * size**0.4
    t_axis = np.clip(0.45 * axis_deg + rng.normal(18, 13), -5, 65)
    return DrawnHeart(
        axis_deg=axis_deg,
        size=size,
        q=rng.uniform(0.08, 0.27) * size * vector(rng, -0.42, -0.15 - 0.4 * np.sin(np.radians(axis_deg)), -0.8, 0.2),
        a=rng.uniform(0.45, 0.75) * size * turn,
        f=size * main,
        s=size * rng.uniform(0.1, 0.5) * vector(rng, -0.55, -0.3, 0.5, 0.25),
        t=t_size * (frontal(float(t_axis), -rng.uniform(0.25, 0.9)) + rng.normal(0, 0.06, 3)),
        st=vector(rng, 0.015, 0.01, -0.02, 0.012),
    )
