"""Which diagnoses there are, how often, which go together, and which findings of form each is seen with.

Shares are those of a teaching set: every statement often enough to be learned. What goes together follows the record of PTB-XL
(folds 1 to 8 of a sample): a large left ventricle with ischaemia by strain, an infarct with an abnormal QRS, fibrillation with
ST-T changes, low T waves with depressed ST segments.
"""

from __future__ import annotations

import numpy as np

DIAGNOSIS_SHARES: dict[str, float] = {
    "": 0.46, "LVH": 0.085, "VCLVH": 0.018, "HVOLT": 0.016, "SEHYP": 0.01, "RVH": 0.024, "LAO/LAE": 0.025, "RAO/RAE": 0.02,
    "CLBBB": 0.04, "CRBBB": 0.04, "IRBBB": 0.035, "ILBBB": 0.014, "LAFB": 0.045, "LPFB": 0.014, "1AVB": 0.04, "WPW": 0.018,
    "IVCD": 0.03, "AMI": 0.024, "ASMI": 0.04, "ALMI": 0.016, "IMI": 0.05, "ILMI": 0.018, "LMI": 0.014, "PMI": 0.01,
    "IPMI": 0.007, "IPLMI": 0.007, "INJAS": 0.01, "INJAL": 0.009, "INJIN": 0.008, "INJLA": 0.008, "INJIL": 0.008,
    "ISC_": 0.02, "ISCAL": 0.024, "ISCIN": 0.016, "ISCIL": 0.012, "ISCLA": 0.012, "ISCAS": 0.012, "ISCAN": 0.009,
    "NDT": 0.045, "NST_": 0.035, "NT_": 0.025, "TAB_": 0.014, "LNGQT": 0.034, "DIG": 0.024, "EL": 0.016, "ANEUR": 0.01,
    "LVOLT": 0.028, "ABQRS": 0.02, "QWAVE": 0.02, "STE_": 0.018, "STD_": 0.014, "LOWT": 0.016, "INVT": 0.016,
}  # fmt: skip

INFARCTS = frozenset({"AMI", "ASMI", "ALMI", "IMI", "ILMI", "LMI", "PMI", "IPMI", "IPLMI"})
INJURIES = frozenset({"INJAS", "INJAL", "INJIN", "INJLA", "INJIL"})
ISCHAEMIAS = frozenset({"ISC_", "ISCAL", "ISCIN", "ISCIL", "ISCLA", "ISCAS", "ISCAN"})
REPOLARISATION = ISCHAEMIAS | INJURIES | {
    "NDT", "NST_", "NT_", "TAB_", "LNGQT", "DIG", "EL", "ANEUR", "STE_", "STD_", "LOWT", "INVT"
}  # fmt: skip
"""What is read from ST segments and T waves."""

_WIDE = frozenset({"CLBBB", "CRBBB", "IRBBB", "ILBBB", "WPW", "RVH", "IVCD"})
_APART: tuple[frozenset[str], ...] = (
    _WIDE | {"LNGQT"},
    frozenset({"LAFB", "LPFB", "CLBBB", "ILBBB", "RVH", "WPW", "IMI", "ILMI", "IPMI", "IPLMI", "LVOLT"}),
    frozenset({"LVH", "VCLVH", "HVOLT", "SEHYP", "RVH", "CLBBB", "WPW", "LVOLT", "CRBBB"}),
    INFARCTS | {"CLBBB", "ILBBB", "WPW", "RVH", "IVCD", "SEHYP", "ABQRS", "QWAVE", "ANEUR"},
    REPOLARISATION | INFARCTS | {"CLBBB", "CRBBB", "WPW", "RVH", "LVH", "IVCD"},
    _WIDE | {"ABQRS", "QWAVE"},
    frozenset({"1AVB", "WPW"}),
    frozenset({"LAO/LAE", "RAO/RAE"}),
)
"""Of each set a heart is drawn with at most one: together they would not be seen, or not be true, in one record."""

_HIDES_P = frozenset({"1AVB", "WPW", "LAO/LAE", "RAO/RAE"})
UNSEEN: dict[str, frozenset[str]] = {
    "AFIB": _HIDES_P | {"LNGQT"},
    "AFLT": _HIDES_P | REPOLARISATION,
    "SVTAC": _HIDES_P | REPOLARISATION | {"LVOLT"},
    "PSVT": _HIDES_P | REPOLARISATION | {"LVOLT"},
    "SVARR": _HIDES_P | {"LNGQT"},
    "STACH": frozenset({"1AVB", "LNGQT"}),
}
"""Diagnoses that a rhythm hides."""


def together(one: str, other: str) -> bool:
    """Return whether a heart may be drawn with both."""
    return one != other and not any({one, other} <= group for group in _APART)


def _some(chances: dict[str, float], rng: np.random.Generator) -> set[str]:
    return {code for code, chance in chances.items() if rng.random() < chance}


def findings(diagnoses: frozenset[str], rhythm: str, stage: str, rng: np.random.Generator) -> frozenset[str]:
    """Return what is seen with the diagnoses and the rhythm: statements of form, and ischaemia where there is strain."""
    seen: set[str] = set()
    if "1AVB" in diagnoses:
        seen.add("LPR")
    if "LVH" in diagnoses:
        seen.add("VCLVH")
        if not diagnoses & REPOLARISATION and rng.random() < 0.6:  # strain
            seen |= _some({"ISC_": 0.75, "STD_": 0.55, "INVT": 0.25, "LOWT": 0.08}, rng) or {"ISC_"}
    if diagnoses & INFARCTS:
        seen |= _some({"ABQRS": 0.6, "QWAVE": 0.5, "LOWT": 0.08}, rng)
        seen |= {"acute": {"STE_"}, "recent": {"INVT"}}.get(stage, set()) if rng.random() < 0.8 else set()
    if diagnoses & {"IVCD", "LAFB", "IRBBB", "ILBBB"} and rng.random() < 0.15:
        seen.add("ABQRS")
    seen |= _of_repolarisation(diagnoses, rng)
    if rhythm == "AFIB" and not diagnoses & (REPOLARISATION | INFARCTS | _WIDE | {"LVH", "PACE"}):
        seen |= _some({"NST_": 0.22, "STD_": 0.15, "NDT": 0.12}, rng)
    return frozenset(seen - diagnoses)


def _of_repolarisation(diagnoses: frozenset[str], rng: np.random.Generator) -> set[str]:
    seen: set[str] = set()
    if diagnoses & ISCHAEMIAS:
        seen |= _some({"INVT": 0.45, "STD_": 0.5, "LOWT": 0.12}, rng)
    if diagnoses & INJURIES:
        seen |= _some({"STD_": 0.75}, rng)
    if "DIG" in diagnoses:
        seen |= _some({"STD_": 0.7, "LOWT": 0.4}, rng)
    if "NDT" in diagnoses:
        seen |= _some({"LOWT": 0.25, "NT_": 0.25, "STD_": 0.1}, rng)
    if "NST_" in diagnoses:
        seen |= _some({"STD_": 0.3, "LOWT": 0.08}, rng) or _some({"STE_": 0.2}, rng)
    if "NT_" in diagnoses:
        seen |= _some({"LOWT": 0.15, "NDT": 0.4}, rng)
    if "TAB_" in diagnoses:
        seen |= _some({"INVT": 0.3, "LOWT": 0.2}, rng)
    if "EL" in diagnoses:
        seen |= _some({"TAB_": 0.25, "LOWT": 0.15}, rng)
    if "ANEUR" in diagnoses:
        seen |= _some({"STE_": 0.6, "QWAVE": 0.5}, rng)
    if "STD_" in diagnoses:
        seen |= _some({"LOWT": 0.4}, rng)
    return seen
