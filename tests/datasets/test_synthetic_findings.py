"""Every finding of the synthetic corpus measured on the clean average beat, in the leads where a reader looks for it.

The beat is the heart's own, projected to the record's electrodes without noise or filter. Q is the lowest value before the
highest one within the QRS, ST the value 60 ms behind its end, T the largest deflection from 100 ms behind its end to the end
of QT; all in millivolts from the value 40 ms before the QRS. Medians over records: in a single one a finding may be slight.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

import melp_bench as mb
from melp_plugins.datasets import scp
from melp_plugins.datasets.synthetic import draw
from melp_plugins.datasets.synthetic.case import CaseParameters
from melp_plugins.datasets.synthetic.diagnoses import DIAGNOSIS_SHARES, INFARCTS, INJURIES, ISCHAEMIAS, REPOLARISATION
from melp_plugins.datasets.synthetic.electrodes import LEADS_FROM_ELECTRODES
from melp_plugins.datasets.synthetic.heart import render
from melp_plugins.datasets.synthetic.rhythm import MARGIN_S

RATE_HZ = 1000.0
BEFORE = 40  # samples before the QRS
OTHERS = INFARCTS | INJURIES | ISCHAEMIAS | REPOLARISATION | {"CLBBB", "CRBBB", "WPW", "PACE", "RVH", "LVH", "IVCD", "LVOLT"}


@cache
def cases() -> tuple[CaseParameters, ...]:
    return tuple(draw(5, index, 10.0) for index in range(3000))


def beat(case: CaseParameters) -> NDArray[np.float64]:
    """Return the dominant beat (12, T) in the record's leads; its first sample is 40 ms before the QRS."""
    out = np.zeros((round((MARGIN_S + 0.75) * RATE_HZ), 3))
    render(case.heart.dominant, np.zeros(1), np.array([case.qt_s]), np.ones((1, 3)), out, RATE_HZ)
    leads = LEADS_FROM_ELECTRODES @ case.recording.torso @ out.T
    return np.asarray(leads[:, round(MARGIN_S * RATE_HZ) - BEFORE :])


def measured(case: CaseParameters) -> dict[str, dict[str, float]]:
    """Return Q, R, S, ST and T of every lead."""
    found = {}
    end = BEFORE + round(case.qrs_s * RATE_HZ)
    stop = BEFORE + round(case.qt_s * RATE_HZ)
    for name, lead in zip(mb.LEADS, beat(case), strict=True):
        qrs, rest = lead[:end], lead[end + 100 : max(stop, end + 120)]
        top = int(np.argmax(qrs))
        found[name] = {
            "Q": float(qrs[: top + 1].min()) if qrs[top] > 0.05 else float(qrs.min()),
            "R": float(qrs.max()),
            "S": float(qrs[top:].min()),
            "ST": float(lead[end + 60]),
            "T": float(rest[np.argmax(np.abs(rest))]),
        }
    return found


@cache
def medians(wanted: frozenset[str], without: frozenset[str] = frozenset()) -> dict[str, dict[str, float]]:
    chosen = [c for c in cases() if wanted <= c.diagnoses and not without & c.diagnoses][:40]
    assert len(chosen) >= 4, wanted
    all_of = [measured(c) for c in chosen]
    return {lead: {k: float(np.median([m[lead][k] for m in all_of])) for k in all_of[0][lead]} for lead in mb.LEADS}


def of(*codes: str) -> dict[str, dict[str, float]]:
    return medians(frozenset(codes), OTHERS - set(codes) - {"QWAVE", "ABQRS"})


def healthy() -> dict[str, dict[str, float]]:
    return medians(frozenset(), frozenset(DIAGNOSIS_SHARES) | {"PACE"})


@pytest.mark.parametrize(
    ("code", "leads"),
    [
        ("IMI", ("III",)), ("ILMI", ("aVF", "V6")), ("ASMI", ("V1", "V2")), ("AMI", ("V2", "V3")), ("ALMI", ("V4", "V5")),
        ("LMI", ("I", "aVL")), ("IPMI", ("III",)), ("IPLMI", ("aVF",)), ("ANEUR", ("V2", "V3")),
    ],
)  # fmt: skip
def test_an_infarct_has_deeper_q_waves_than_health_where_it_lies(code: str, leads: tuple[str, ...]) -> None:
    with_scar = medians(frozenset({code}), frozenset({"CRBBB", "IRBBB", "LAFB", "LPFB", "LVOLT"}))
    for lead in leads:
        assert with_scar[lead]["Q"] < healthy()[lead]["Q"] - 0.04, lead


def test_a_posterior_infarct_has_the_larger_r_to_s_ratio_in_the_right_chest_leads() -> None:
    scar, health = of("PMI"), healthy()
    for lead in ("V1", "V2"):
        assert scar[lead]["R"] / -scar[lead]["S"] > 1.5 * health[lead]["R"] / -health[lead]["S"]


@pytest.mark.parametrize(
    ("code", "lead"),
    [("INJAS", "V2"), ("INJAL", "V4"), ("INJIN", "aVF"), ("INJLA", "I"), ("INJIL", "V6"), ("STD_", "V5"), ("DIG", "V5")],
)
def test_subendocardial_injury_digitalis_and_depression_lower_st_in_their_leads(code: str, lead: str) -> None:
    assert medians(frozenset({code}), frozenset({"LVOLT", "CLBBB"}))[lead]["ST"] < -0.04


@pytest.mark.parametrize(
    ("code", "lead"),
    [("ISC_", "V5"), ("ISCAL", "V4"), ("ISCIN", "aVF"), ("ISCIL", "V6"), ("ISCLA", "I"), ("ISCAS", "V2"), ("ISCAN", "V3")],
)
def test_ischaemia_lowers_the_t_waves_of_its_leads(code: str, lead: str) -> None:
    assert medians(frozenset({code}))[lead]["T"] < healthy()[lead]["T"] - 0.1


def test_inverted_t_waves_are_negative_to_the_left() -> None:
    for code in ("LVH", "ISC_", "ISCAL"):
        assert medians(frozenset({code, "INVT"}), INFARCTS)["V5"]["T"] < -0.05


def test_low_t_waves_are_low_and_changed_ones_lower_than_in_health() -> None:
    for lead in ("I", "II", "V5", "V6"):
        usual = healthy()[lead]["T"]
        assert abs(medians(frozenset({"LOWT"}), frozenset({"INVT"}))[lead]["T"]) < 0.6 * usual
        assert medians(frozenset({"NDT"}))[lead]["T"] < 0.7 * usual
        assert medians(frozenset({"NT_"}))[lead]["T"] < 0.7 * usual


def test_elevated_st_segments_are_elevated_in_the_chest_leads() -> None:
    assert of("STE_")["V3"]["ST"] > 0.08
    assert medians(frozenset({"ANEUR"}))["V2"]["ST"] > 0.08


def _axis(m: dict[str, dict[str, float]]) -> float:
    net = {lead: m[lead]["R"] + min(m[lead]["Q"], m[lead]["S"]) for lead in ("I", "aVF")}
    return float(np.degrees(np.arctan2(net["aVF"] * 2 / np.sqrt(3), net["I"])))


def test_fascicular_blocks_turn_the_axis_to_their_side() -> None:
    assert _axis(of("LAFB")) < -25
    assert _axis(of("LPFB")) > 80
    assert 0 < _axis(healthy()) < 75


def test_voltages_are_high_where_they_are_said_to_be() -> None:
    for code in ("VCLVH", "HVOLT"):
        for case in [c for c in cases() if code in c.diagnoses and not {"LVOLT", "PACE"} & c.diagnoses][:15]:
            m = measured(case)
            assert -min(m["V1"]["Q"], m["V1"]["S"]) + max(m["V5"]["R"], m["V6"]["R"]) > 3.3


def test_a_large_septum_has_deep_narrow_q_waves_to_the_left() -> None:
    assert of("SEHYP")["V5"]["Q"] < healthy()["V5"]["Q"] - 0.1


def test_an_incomplete_left_block_is_wider_than_health_and_narrower_than_a_complete_one() -> None:
    widths = {code: [c.qrs_s for c in cases() if code in c.diagnoses] for code in ("ILBBB", "CLBBB")}
    assert min(widths["ILBBB"]) > 0.1
    assert max(widths["ILBBB"]) < 0.12 <= min(widths["CLBBB"])


def test_statements_go_together_as_in_the_record() -> None:
    """Ischaemia mostly with a large ventricle, an abnormal QRS mostly with an infarct, low T with depressed ST."""

    def share(code: str, given: frozenset[str] | set[str]) -> float:
        having = [c for c in cases() if code in c.statements]
        return sum(bool(c.statements & given) for c in having) / len(having)

    assert share("ISC_", {"LVH"}) > 0.5
    assert share("ABQRS", INFARCTS) > 0.5
    assert share("LOWT", {"STD_"}) > 0.15


def test_all_statements_of_the_diagnostic_and_form_tasks_but_higher_av_blocks_are_drawn() -> None:
    table = scp.statements().values()
    wanted = {s.code for s in table if s.super_class or s.is_form} - {"2AVB", "3AVB"}
    drawn = {s for c in cases() for s in c.statements}
    assert wanted <= drawn, sorted(wanted - drawn)
