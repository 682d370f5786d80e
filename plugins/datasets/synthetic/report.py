"""The record's report: sentences from a grammar, true of the record, in the manner of cardiologists and of machines."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import numpy as np

from melp_plugins.datasets.synthetic.case import RHYTHM_SHARES, CaseParameters

IMPLIED = {
    "LPR": 0.5, "ABQRS": 0.6, "VCLVH": 0.6, "QWAVE": 0.6, "LOWT": 0.8, "INVT": 0.85, "STD_": 0.85, "STE_": 0.85, "ISC_": 0.8,
    "NDT": 0.8, "NT_": 0.8, "NST_": 0.8, "TAB_": 0.8, "PRC(S)": 0.5,
}  # fmt: skip
"""What may be seen with a diagnosis; where it is, it is spelt out with this probability, and always where it stands alone."""

TERSE = 0.5
"""The share of reports that say only some of what there is to say, as many do in practice, and often a single thing."""

NO_PR = frozenset({"AFIB", "AFLT", "SVTAC", "PSVT", "SVARR", "PACE"})
"""Rhythms in which a PR interval is not reported."""


@cache
def phrases() -> dict[str, dict[str, list[str]]]:
    """Return the phrase book: section, then statement, then wordings."""
    text = files("melp_plugins.datasets.synthetic").joinpath("phrases.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _choose(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def write_report(case: CaseParameters) -> str:
    """Return the report of a record, a pure function of its parameters."""
    rng = np.random.default_rng([case.seed, 4, case.index])
    book = phrases()
    values = {
        "rate": f"{case.rate_bpm:.0f}",
        "pr": f"{case.pr_s * 1000:.0f}",
        "qrs": f"{case.qrs_s * 1000:.0f}",
        "qt": f"{case.qt_s * 1000:.0f}",
        "qtc": f"{case.qtc_s * 1000:.0f}",
        "age": _choose(book["words"][case.stage], rng) if case.stage else "",
    }
    wordings = book["rhythm"][case.rhythm]
    if rng.random() < 0.75:  # most readers leave the rate to the machine's own line
        wordings = [w for w in wordings if "{rate}" not in w] or wordings
    sentences = [_choose(wordings, rng)]
    if "{rate}" not in sentences[0] and rng.random() < 0.15:
        sentences.append(_choose(book["measure"]["rate"], rng))
    if rng.random() < 0.12:
        sentences.append(_choose(book["measure"]["without_pr" if case.rhythm in NO_PR else "all"], rng))
    if case.rhythm == "PACE" and "AFIB" in case.statements:
        sentences.append(_choose(book["beneath"]["AFIB"], rng))
    findings = sorted(case.statements - set(RHYTHM_SHARES) - {"NORM"})
    own = case.patient.diagnoses
    findings = [f for f in findings if f in own or len(findings) == 1 or rng.random() < IMPLIED.get(f, 1.0)]
    sentences += [_choose(book["finding"][findings[k]], rng) for k in rng.permutation(len(findings))]
    if "NORM" in case.statements:
        sentences.append(_choose(book["closing"]["NORM"], rng))
    elif rng.random() < 0.3:
        sentences.append(_choose(book["closing"]["abnormal"], rng))
    if rng.random() < 0.15:  # some readers put the rhythm last
        sentences = [*sentences[1:], sentences[0]]
    if rng.random() < TERSE:
        most = 1 if rng.random() < 0.4 else int(rng.integers(1, len(sentences) + 1))
        kept = np.sort(rng.permutation(len(sentences))[:most])
        sentences = [sentences[k] for k in kept]
    filled = [s.format(hedge=_choose(book["words"]["hedge"], rng) if rng.random() < 0.7 else "", **values) for s in sentences]
    if rng.random() < 0.4:  # machine style
        return ". ".join(s.lower() for s in filled) + "."
    return ". ".join(s[0].upper() + s[1:] for s in filled) + "."
