"""The names of leads, and what the limb leads have to do with each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from melp_bench.errors import UserError

LEADS: tuple[str, ...] = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""The twelve standard leads in the standard order."""
LIMB = {"I": (1.0, 0.0), "II": (0.0, 1.0), "III": (-1.0, 1.0), "aVR": (-0.5, -0.5), "aVL": (1.0, -0.5), "aVF": (-0.5, 1.0)}
"""Einthoven's and Goldberger's identities: each limb lead as a sum of I and II."""

_PLAIN = {lead.casefold(): lead for lead in LEADS}
_ALIASES = (
    _PLAIN
    | {f"{prefix}{lead.casefold()}": lead for lead in ("I", "II", "III") for prefix in ("d", "ml")}
    | {f"d{number}": lead for number, lead in enumerate(("I", "II", "III"), start=1)}
    | {f"c{number}": f"V{number}" for number in range(1, 7)}
    | {f"mv{number}": f"V{number}" for number in range(1, 7)}
)
FLAT_MILLIVOLT = 1e-4
"""A spread below 0.1 microvolt is a constant: scaling it up would show rounding errors as a signal."""


@lru_cache(maxsize=1024)
def canonical_lead(name: str) -> str:
    """Return the standard name of a lead.

    Case, blanks, underscores, dots and the words "ECG" and "lead" in front do not matter. Known besides the standard names:
    DI, DII, DIII and D1 to D3 (I to III), MLI to MLIII and MV1 to MV6 (modified leads, the nearest standard one), C1 to C6
    (IEC for V1 to V6). A negated lead ("-aVR") is refused, because renaming it would keep its samples upside down.

    Raises:
        UserError: no standard lead has that name.
    """
    plain = re.sub(r"^(lead|ecg)+", "", re.sub(r"[\s_.]+", "", name.casefold()))
    if plain not in _ALIASES:
        hint = "a negated lead must be turned upright by its dataset" if plain.startswith("-") else "rename it in its dataset"
        raise UserError(f"unknown lead {name!r}; known: {', '.join(LEADS)} and their usual spellings; {hint}")
    return _ALIASES[plain]


def lead_matrix(have: Sequence[str], want: Sequence[str], *, zero: bool = False) -> list[int] | NDArray[np.float64]:
    """Return where each wanted lead is found, or where not all are, the matrix (wanted, had) that derives the limb leads.

    A missing limb lead is made of two others, I and II where they are there; with `zero`, what cannot be derived is zero.

    Raises:
        UserError: a lead is unknown, had twice or cannot be derived.
    """
    names = [canonical_lead(name) for name in have]
    if len(set(names)) != len(names):
        raise UserError(f"leads {list(have)} name a lead twice; give each lead once")
    wanted = [canonical_lead(name) for name in want]
    if all(lead in names for lead in wanted):
        return [names.index(lead) for lead in wanted]
    matrix = np.zeros((len(wanted), len(names)))
    pair = [lead for lead in LIMB if lead in names][:2]
    lacking = []
    for row, lead in enumerate(wanted):
        if lead in names:
            matrix[row, names.index(lead)] = 1.0
        elif lead in LIMB and len(pair) == 2:
            weights = np.linalg.solve(np.array([LIMB[known] for known in pair]).T, np.array(LIMB[lead]))
            matrix[row, [names.index(known) for known in pair]] = weights
        else:
            lacking.append(lead)
    if lacking and not zero:
        raise UserError(
            f"{_listed(lacking)} wanted and cannot be derived from {', '.join(names)}; "
            'use an encoder that wants other leads, or one whose SignalSpec says missing_leads="zero"'
        )
    return matrix


def _listed(leads: Sequence[str]) -> str:
    return f"lead {leads[0]} is" if len(leads) == 1 else f"leads {', '.join(leads)} are"
