"""The synthetic corpus as a dataset: purity, identities, patients, prevalence, statements and reports."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import melp_bench as mb
from melp_plugins.datasets import scp
from melp_plugins.datasets.synthetic import Synthetic, draw
from melp_plugins.datasets.synthetic.case import RHYTHM_SHARES, patient_of
from melp_plugins.datasets.synthetic.diagnoses import DIAGNOSIS_SHARES
from melp_plugins.datasets.synthetic.electrodes import DOWER, LEADS_FROM_ELECTRODES, TORSO
from melp_plugins.datasets.synthetic.report import IMPLIED, TERSE, phrases

NOWHERE = Path("does-not-exist")
NUM = 2000


@cache
def corpus() -> tuple[mb.RecordInfo, ...]:
    return tuple(Synthetic(num_records=NUM).infos(NOWHERE))


def test_a_record_depends_on_its_seed_and_number_alone() -> None:
    small, large = Synthetic(num_records=5), Synthetic(num_records=60)
    forward = list(large.infos(NOWHERE))
    assert list(small.infos(NOWHERE)) == forward[:5]
    backward = {info.record_id: large.signal(NOWHERE, info).millivolts for info in reversed(forward[:5])}
    for info in forward[:5]:
        np.testing.assert_array_equal(small.signal(NOWHERE, info).millivolts, backward[info.record_id])


def test_another_seed_is_another_corpus() -> None:
    one, other = (list(Synthetic(num_records=40, seed=seed).infos(NOWHERE)) for seed in (0, 1))
    assert not {i.record_id for i in one} & {i.record_id for i in other}
    assert not {i.patient_id for i in one} & {i.patient_id for i in other}
    assert [i.report for i in one] != [i.report for i in other]


def test_einthovens_and_goldbergers_identities_hold() -> None:
    dataset = Synthetic()
    for info in corpus()[:40]:
        lead = dict(zip(mb.LEADS, dataset.signal(NOWHERE, info).millivolts.astype(np.float64), strict=True))
        one, two, three = lead["I"], lead["II"], lead["III"]
        scale = 2e-6 * max(float(np.abs(list(lead.values())).max()), 1.0)  # a few roundings of float32
        for residual in (
            two - one - three,
            lead["aVR"] + (one + two) / 2,
            lead["aVL"] - one + two / 2,
            lead["aVF"] - two + one / 2,
        ):
            assert np.abs(residual).max() < scale


def test_the_projection_is_dowers() -> None:
    leads = LEADS_FROM_ELECTRODES @ TORSO
    np.testing.assert_allclose(leads[[0, 1, 6, 7, 8, 9, 10, 11]], DOWER, atol=1e-12)
    np.testing.assert_allclose(TORSO[:3].sum(axis=0), 0, atol=1e-12)


@pytest.mark.parametrize(("rate_hz", "seconds"), [(100.0, 10.0), (500.0, 10.0), (1000.0, 5.0), (250.0, 30.0)])
def test_signals_have_the_asked_size_and_plausible_millivolts(rate_hz: float, seconds: float) -> None:
    dataset = Synthetic(num_records=12, rate_hz=rate_hz, seconds=seconds)
    for info in dataset.infos(NOWHERE):
        signal = dataset.signal(NOWHERE, info)
        assert signal.millivolts.shape == (12, round(rate_hz * seconds))
        assert signal.millivolts.dtype == np.float32
        assert signal.rate_hz == rate_hz
        assert np.isfinite(signal.millivolts).all()
        assert 0.1 < np.ptp(signal.millivolts, axis=1).max() < 30


def test_the_sampling_rate_does_not_change_the_heart() -> None:
    slow, fast = Synthetic(num_records=30, rate_hz=250.0), Synthetic(num_records=30, rate_hz=500.0)
    agreement = []
    for info in fast.infos(NOWHERE):
        a, b = slow.signal(NOWHERE, info).millivolts, fast.signal(NOWHERE, info).millivolts[:, ::2]
        if "AFIB" not in info.statements and "PACE" not in info.statements:
            agreement.append(np.corrcoef(a[1], b[1])[0, 1])
    assert np.median(agreement) > 0.8


def test_patients_have_two_and_a_half_records_and_stay_who_they_are() -> None:
    records = defaultdict(list)
    for info in corpus():
        records[info.patient_id].append(info)
    assert NUM / len(records) == pytest.approx(2.5)
    assert {len(r) for r in records.values()} == {1, 2, 3, 4, 6}
    for infos in records.values():
        assert len({(i.age, i.sex) for i in infos}) == 1
    for index in range(40):
        case = draw(0, index, 10.0)
        assert case.patient.number == patient_of(0, index)
        assert case.diagnoses - case.patient.diagnoses <= set(IMPLIED) | {"PACE"}


def test_every_class_of_super_and_rhythm_is_well_represented() -> None:
    tasks = scp.tasks()
    share = {
        task: {c: sum(bool(m & i.statements) for i in corpus()) / NUM for c, m in tasks[task].members.items()}
        for task in ("super", "rhythm")
    }
    assert all(s >= 0.022 for s in share["rhythm"].values()), share
    assert 0.40 < share["rhythm"]["SR"] < 0.60
    assert 0.14 < share["super"]["NORM"] < 0.42
    assert all(s > 0.07 for s in share["super"].values()), share


def test_statements_are_known_and_exclude_what_they_must() -> None:
    rhythms = set(RHYTHM_SHARES)
    for info in corpus():
        has = info.statements
        assert has <= set(scp.statements())
        assert len((has & rhythms) - {"SR"}) <= 1 or has & rhythms == {"AFIB", "PACE"}
        assert has & rhythms
        assert "SR" not in has or not has & (rhythms - {"SR", "BIGU", "TRIGU"})
        assert len(has & {"CLBBB", "CRBBB", "IRBBB", "WPW"}) <= 1
        if "NORM" in has:
            assert has <= {"NORM", "SR", "SBRAD", "STACH", "SARRH"}
        if "AFIB" in has:
            assert not has & {"1AVB", "LPR", "LAO/LAE", "RAO/RAE"}
        if has & {"BIGU", "TRIGU"}:
            assert has & {"PVC", "PAC"}


def test_measured_values_meet_what_the_statements_say() -> None:
    for index in range(NUM // 3):
        case = draw(0, index, 10.0)
        has = case.statements
        assert ("1AVB" in has) == (case.pr_s > 0.2), has
        assert "WPW" not in has or case.pr_s < 0.12
        assert not has & {"CLBBB", "CRBBB"} or case.qrs_s >= 0.12
        assert "NORM" not in has or case.qrs_s < 0.11
        assert ("LNGQT" in has) == (case.qtc_s > 0.48) or "PACE" in has, has  # pacing widens QRS, and QT with it
        if "SBRAD" in has:
            assert case.rate_bpm < 60
        if "STACH" in has:
            assert case.rate_bpm > 100
        if "SR" in has and not case.ectopy:
            assert 60 <= case.rate_bpm <= 100


def test_reports_never_contain_a_statements_code() -> None:
    codes = {code.lower() for code in scp.statements()}
    for info in corpus():
        assert not codes & set(re.findall(r"[\w/()]+", info.report.lower())), info.report


def test_reports_say_nothing_untrue_and_most_say_the_rhythm_and_every_finding() -> None:
    book = phrases()
    complete = 0
    wordings = {c: [_pattern(w) for w in words] for section in ("rhythm", "finding") for c, words in book[section].items()}
    for info in corpus()[:600]:
        sentences = [s.strip().lower() for s in re.split(r"\.(?:\s|$)", info.report) if s.strip()]
        said = {c for c, patterns in wordings.items() for p in patterns for s in sentences if p.fullmatch(s)}
        assert said <= info.statements, info
        expected = info.statements - {"NORM"} - set(IMPLIED)
        if info.statements & {"BIGU", "TRIGU"}:
            expected = expected - {"SR"}  # said in one sentence with the pattern
        closings = {w.lower() for w in book["closing"]["NORM"]} & set(sentences)
        assert not closings or "NORM" in info.statements
        complete += expected <= said and bool(closings) == ("NORM" in info.statements)
    assert 1 - TERSE - 0.05 < complete / 600 < 1


def _pattern(wording: str) -> re.Pattern[str]:
    words = phrases()["words"]
    slots = {"hedge": words["hedge"], "age": [*words["acute"], *words["recent"], *words["old"]]}
    pattern = re.escape(wording.lower())
    for slot, options in slots.items():
        pattern = pattern.replace(re.escape(f"{{{slot}}}"), "(?:" + "|".join(map(re.escape, options)) + ")")
    return re.compile(re.sub(r"\\\{\w+\\\}", r"\\d+", pattern))


def test_reports_are_sentences_that_vary() -> None:
    reports = [i.report for i in corpus()]
    assert all(r.endswith(".") for r in reports)
    assert len(set(reports)) > 0.75 * NUM
    lengths = [r.count(". ") + 1 for r in reports]
    assert 2 <= np.median(lengths) <= 5
    starts = Counter(r.split(".")[0].lower() for r in reports)
    assert max(starts.values()) < 0.12 * NUM


def test_measured_values_in_reports_are_the_records() -> None:
    checked = 0
    for index, info in enumerate(corpus()[:400]):
        case = draw(0, index, 10.0)
        for value in re.findall(r"pr (?:interval |interval of |interval prolonged to )?(?:of )?(\d+) ms", info.report.lower()):
            assert int(value) == round(case.pr_s * 1000)
            checked += 1
        for value in re.findall(r"(\d+) bpm", info.report):
            assert int(value) == round(case.rate_bpm)
            checked += 1
    assert checked > 60


def test_every_statement_that_can_be_drawn_has_wordings() -> None:
    book = phrases()
    assert set(book["rhythm"]) == set(RHYTHM_SHARES)
    assert set(book["finding"]) >= (set(DIAGNOSIS_SHARES) - {""}) | set(IMPLIED) | {"PAC", "PVC"}
    assert {s for i in corpus() for s in i.statements} <= set(book["rhythm"]) | set(book["finding"]) | {"NORM"}


@pytest.mark.parametrize("options", [{"num_records": 0}, {"seed": -1}, {"rate_hz": 10.0}, {"seconds": 1.0}])
def test_impossible_options_are_refused_with_what_to_give(options: dict[str, float]) -> None:
    with pytest.raises(mb.UserError, match="give"):
        Synthetic(**options)  # type: ignore[arg-type]


def test_a_record_of_another_corpus_is_refused() -> None:
    with pytest.raises(mb.UserError, match="s0-000000"):
        Synthetic(seed=0).signal(NOWHERE, mb.RecordInfo("s1-000003"))
