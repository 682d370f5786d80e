"""Who is recorded and with what: patients, diagnoses, intervals, and the statements that are true of the record.

A patient is a function of (seed, patient), a record of (seed, index); nothing else is drawn from. Statements are SCP codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from melp_plugins.datasets.synthetic.diagnoses import DIAGNOSIS_SHARES, INFARCTS, UNSEEN, findings, together
from melp_plugins.datasets.synthetic.electrodes import Recording, body, recording
from melp_plugins.datasets.synthetic.heart import Heart
from melp_plugins.datasets.synthetic.morphology import draw_heart
from melp_plugins.datasets.synthetic.rhythm import RATES_BPM, SINUS, Array, Schedule, Timing, schedule

_HOUSEHOLD = (1, 1, 1, 2, 2, 3, 4, 6)  # records of eight patients, 20 in all: 2.5 a patient
_BLOCK = sum(_HOUSEHOLD)

RHYTHM_SHARES: dict[str, float] = {
    "SR": 0.41, "AFIB": 0.10, "SBRAD": 0.08, "STACH": 0.07, "SARRH": 0.05, "AFLT": 0.05, "PACE": 0.04, "BIGU": 0.04,
    "SVTAC": 0.035, "TRIGU": 0.035, "PSVT": 0.03, "SVARR": 0.03,
}  # fmt: skip
QRS_S: dict[str, tuple[float, float]] = {
    "LVH": (0.086, 0.110), "RVH": (0.086, 0.112), "IRBBB": (0.096, 0.114), "ILBBB": (0.104, 0.118), "IVCD": (0.112, 0.140),
    "WPW": (0.115, 0.155), "CLBBB": (0.126, 0.175), "CRBBB": (0.124, 0.165), "PACE": (0.145, 0.19),
}  # fmt: skip
"""How long the QRS lasts; of several diagnoses the last one here says it."""


@dataclass(frozen=True)
class Patient:
    """What stays with a person from record to record."""

    number: int
    age: float
    sex: str
    diagnoses: frozenset[str]
    habit: str  # the rhythm most of the records show
    axis_deg: float
    size_mv: float
    pr_s: float
    qrs_s: float
    qtc_s: float
    torso: Array


@dataclass(frozen=True)
class CaseParameters:
    """Everything one record is made from."""

    seed: int
    index: int
    patient: Patient
    rhythm: str
    diagnoses: frozenset[str]  # with the findings that go with them
    stage: str  # of an infarct: acute, recent, old; else ""
    ectopy: str
    statements: frozenset[str]
    rate_bpm: float  # measured over the record
    pr_s: float
    qrs_s: float
    qt_s: float  # at the record's mean interval
    qtc_s: float
    events: Schedule
    heart: Heart
    recording: Recording


def patient_of(seed: int, index: int) -> int:
    """Return the number of the patient of record `index`."""
    block, place = divmod(index, _BLOCK)
    order = np.random.default_rng([seed, 1, block]).permutation(np.repeat(np.arange(len(_HOUSEHOLD)), _HOUSEHOLD))
    return block * len(_HOUSEHOLD) + int(order[place])


def _pick(shares: dict[str, float], rng: np.random.Generator) -> str:
    names = list(shares)
    edges = np.cumsum(list(shares.values()))
    return names[min(int(np.searchsorted(edges, rng.random() * edges[-1], side="right")), len(names) - 1)]


def draw_patient(seed: int, number: int) -> Patient:
    """Return patient `number`."""
    rng = np.random.default_rng([seed, 2, number])
    sex = "F" if rng.random() < 0.48 else "M"
    first = _pick(DIAGNOSIS_SHARES, rng)
    diagnoses = {first} - {""}
    for chance in (0.5, 0.3):  # most hearts that have one thing have another
        other = _pick(DIAGNOSIS_SHARES, rng) if first and rng.random() < chance else ""
        if other and all(together(one, other) for one in diagnoses):
            diagnoses.add(other)
    young = not diagnoses or diagnoses & {"WPW", "IRBBB"}
    age = float(np.clip(np.round(rng.normal(50 if young else 66, 17 if young else 12)), 18, 95))
    habit = _pick(RHYTHM_SHARES, rng)
    if not diagnoses and habit in ("AFIB", "AFLT"):  # such atria seldom belong to a heart with nothing else wrong
        diagnoses = {_pick(DIAGNOSIS_SHARES, rng)} - {""}
    return Patient(
        number=number,
        age=age,
        sex=sex,
        diagnoses=frozenset(diagnoses),
        habit=habit,
        axis_deg=float(np.clip(rng.normal(50 - 0.55 * (age - 30), 24), -25, 86)),
        size_mv=float(np.clip(np.exp(rng.normal(0.22 if sex == "M" else 0.12, 0.26)), 0.45, 2.2)),
        pr_s=float(np.clip(rng.normal(0.152 + 0.0003 * (age - 50), 0.017), 0.122, 0.192)),
        qrs_s=float(np.clip(rng.normal(0.092 if sex == "M" else 0.086, 0.007), 0.072, 0.106)),
        qtc_s=float(np.clip(rng.normal(0.408 if sex == "M" else 0.418, 0.016), 0.365, 0.445)),
        torso=body(rng),
    )


def _intervals(patient: Patient, diagnoses: frozenset[str], rng: np.random.Generator) -> tuple[float, float, float]:
    """Return PR, QRS and QTc in seconds."""
    pr = patient.pr_s + rng.normal(0, 0.003)
    if "1AVB" in diagnoses:
        pr = rng.uniform(0.212, 0.32)
    elif "WPW" in diagnoses:
        pr = rng.uniform(0.082, 0.112)
    qrs, qtc = patient.qrs_s, patient.qtc_s + rng.normal(0, 0.004)
    for code, (low, high) in QRS_S.items():
        if code in diagnoses:
            qrs = rng.uniform(low, high)
    if "LNGQT" in diagnoses:
        qtc = rng.uniform(0.495, 0.575)
    elif "DIG" in diagnoses:
        qtc = rng.uniform(0.35, 0.39)
    elif diagnoses & {"CLBBB", "CRBBB", "PACE"}:
        qtc = qtc + 0.5 * (qrs - patient.qrs_s)
        qtc = qtc if "PACE" in diagnoses else min(qtc, 0.475)  # wide, and not long by that
    return float(pr), float(qrs), float(qtc)


def _rhythm(patient: Patient, rng: np.random.Generator) -> str:
    """Return the patient's habitual rhythm or another; a heart with nothing else wrong is in sinus rhythm more often."""
    rhythm = patient.habit if rng.random() < 0.5 else _pick(RHYTHM_SHARES, rng)
    if not patient.diagnoses and rhythm not in SINUS and rng.random() < 0.5:
        return "SR"
    return rhythm


def _ectopy(rhythm: str, rng: np.random.Generator) -> str:
    if rhythm in ("BIGU", "TRIGU"):
        return "PVC" if rng.random() < 0.65 else "PAC"
    chance = rng.random()
    if rhythm in ("SR", "SBRAD"):
        return "PVC" if chance < 0.06 else "PAC" if chance < 0.11 else ""
    return "PVC" if rhythm == "AFIB" and chance < 0.08 else ""


def draw(seed: int, index: int, seconds: float) -> CaseParameters:
    """Return what record `index` is made from: a pure function of its arguments."""
    patient = draw_patient(seed, patient_of(seed, index))
    rng = np.random.default_rng([seed, 3, index])
    rhythm = _rhythm(patient, rng)
    diagnoses = frozenset({"PACE"}) if rhythm == "PACE" else patient.diagnoses - UNSEEN.get(rhythm, frozenset())
    stage = str(rng.choice(("acute", "recent", "old"), p=(0.25, 0.25, 0.5))) if diagnoses & INFARCTS else ""
    diagnoses |= findings(diagnoses, rhythm, stage, rng)
    pr, qrs, qtc = _intervals(patient, diagnoses, rng)
    ectopy = _ectopy(rhythm, rng)
    low, high = RATES_BPM[rhythm]
    if "1AVB" in diagnoses or "LNGQT" in diagnoses:
        high = min(high, 85.0)
    if rhythm == "SBRAD" and ectopy == "PAC":
        high = 52.0
    rate = float(rng.uniform(low, high))
    events = schedule(Timing(rhythm, rate, pr, qtc, seconds, ectopy, float(rng.uniform(0.15, 0.35))), rng)
    measured = events.rate_bpm(seconds)
    taken = recording(patient.torso, rng)
    p_s = 0.128 if "LAO/LAE" in diagnoses else float(rng.uniform(0.088, 0.112))
    qt = float(np.median(events.qt_s))
    heart = draw_heart(
        diagnoses, stage, axis_deg=patient.axis_deg, size=patient.size_mv, sex=patient.sex, qrs_s=qrs, p_s=min(p_s, pr - 0.004),
        torso=taken.torso, rng=rng,
    )  # fmt: skip
    statements = diagnoses | {rhythm} | ({ectopy} if ectopy else set())
    if ectopy and rng.random() < 0.12:
        statements |= {"PRC(S)"}
    if rhythm in ("BIGU", "TRIGU"):
        statements |= {"SR"}  # the rhythm beneath the pattern
    if events.atria.kind == "fibrillation":
        statements |= {"AFIB"}  # beneath a pacemaker's beats, too
    if statements <= SINUS - {"BIGU", "TRIGU"} and 45 < measured < 125:
        statements |= {"NORM"}
    return CaseParameters(
        seed,
        index,
        patient,
        rhythm,
        diagnoses,
        stage,
        ectopy,
        frozenset(statements),
        measured,
        pr,
        qrs,
        qt,
        qtc,
        events,
        heart,
        taken,
    )
