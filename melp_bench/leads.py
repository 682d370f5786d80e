"""The names of leads, and what the limb leads have to do with each other."""

from __future__ import annotations

import re
from functools import lru_cache

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
