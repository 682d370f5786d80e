"""Brugada-HUCA, the Norwegian athletes and the demo of MIMIC-IV-ECG, from folders made in their form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import wfdb
from source_folders import hearts, write_table, write_wfdb

from melp_bench.errors import UserError
from melp_bench.signal import LEADS
from melp_bench.store import prepare
from melp_bench.testing import check_component
from melp_plugins.datasets import brugada_huca, mimic_iv_ecg_demo, norwegian_athletes

UPPER = ("I", "II", "III", "AVR", "AVL", "AVF", *LEADS[6:])
SAID = [
    ("Sinus bradycardia with marked sinus arrhythmia, Right axis deviation, Borderline ECG", "Sinus arrhythmia,  Normal ECG"),
    (
        "***Critical test result: STEMI, Sinus bradycardia, "
        "ST elevation, consider early repolarization, pericarditis, or injury, ** ** ACUTE MI/STEMI** **, Abnormal ECG",
        "Sinus bradycardia, normal sinus rhythm, First degree AV block, Borderline ECG",
    ),
]
DEMO_ORDER = ("I", "II", "III", "aVR", "aVF", "aVL", *LEADS[6:])


def brugada_folder(root: Path) -> Path:
    """Return a folder in the form of Brugada-HUCA."""
    root.mkdir(parents=True)
    rows = []
    for number, (pattern, death, brugada) in enumerate([(1, 0, 1), (0, 0, 0), (0, 1, 2), ("", 0, 0)]):
        patient = str(188981 + number)
        write_wfdb(root / "files" / patient / patient, hearts(4, 100.0, 12.0)[number], 100)
        rows.append({"patient_id": patient, "basal_pattern": pattern, "sudden_death": death, "brugada": brugada})
    write_table(root / "metadata.csv", rows)
    (root / "files" / ".DS_Store").write_bytes(b"\0")
    return root


def athletes_folder(root: Path) -> Path:
    """Return a folder in the form of the Norwegian athletes: each lead stretched to the whole range of 16 bits."""
    for number, (machine, cardiologist) in enumerate(SAID, 1):
        heart = hearts(2)[number - 1]
        low, high = heart.min(axis=1, keepdims=True), heart.max(axis=1, keepdims=True)
        stretched = ((heart - low) / (high - low) * 65534 - 32767) / 50000
        comments = [f"SL12: {machine}", f"C: {cardiologist}"]
        write_wfdb(root / f"ath_{number:03d}", stretched.astype(np.float32), 500, leads=UPPER, gain=50000.0, comments=comments)
    return root


def demo_folder(root: Path) -> Path:
    """Return a folder in the form of MIMIC-IV-ECG Demo 0.1."""
    root.mkdir(parents=True)
    rows = []
    for number in range(3):
        study, patient = 107143276 + number, 10000032 + number // 2
        path = f"files/p{patient}/s{study}/{study}"
        write_wfdb(
            root / path, hearts(3)[number][[LEADS.index(lead) for lead in DEMO_ORDER]], 500, leads=DEMO_ORDER, gain=200.0
        )
        rows.append({"subject_id": patient, "study_id": study, "file_name": study, "ecg_time": "2113-08-25", "path": path})
    write_table(root / "record_list.csv", rows)
    return root


def test_brugada_has_a_person_a_record_and_three_questions(tmp_path: Path) -> None:
    source = brugada_folder(tmp_path / "in")
    store = prepare(brugada_huca.BrugadaHUCA(), name="brugada-huca", source=source, root=tmp_path / "store")
    assert store.record_ids.tolist() == store.patient_ids.tolist() == ["188981", "188982", "188983", "188984"]
    assert store.labels("brugada").tolist() == [[1, 0], [0, 1], [0, 0], [0, 1]]
    assert store.labels("basal_pattern").tolist() == [[1, 0], [0, 1], [0, 1], [0, 0]]
    assert store.labels("sudden_death").tolist() == [[0, 1], [0, 1], [1, 0], [0, 1]]
    wanted, fields = wfdb.rdsamp(str(source / "files/188982/188982"))
    info = list(brugada_huca.BrugadaHUCA().infos(source))[1]
    signal = brugada_huca.BrugadaHUCA().signal(source, info)
    assert np.abs(signal.millivolts.T - wanted).max() < 1e-6
    assert (signal.rate_hz, fields["fs"]) == (100.0, 100)


def test_a_value_that_brugadas_dictionary_has_not_is_counted(tmp_path: Path) -> None:
    source = brugada_folder(tmp_path / "in")
    table = source / "metadata.csv"
    table.write_text(table.read_text().replace("188983,0,1,2", "188983,0,1,7"))
    dataset = brugada_huca.BrugadaHUCA()
    assert sorted(list(dataset.infos(source))[2].statements) == ["basal_pattern: 0", "sudden_death: 1"]
    assert dataset.remarks == ["brugada: 1 cells ('7' 1) not understood and left out"]
    table.write_text(table.read_text().replace("188984,", "../x,"))
    with pytest.raises(UserError, match=r"line 5: patient_id is '\.\./x'; wanted a number"):
        list(dataset.infos(source))


def test_an_athletes_two_readings_are_kept_apart(tmp_path: Path) -> None:
    source = athletes_folder(tmp_path / "in")
    store = prepare(norwegian_athletes.NorwegianAthletes(), name="norwegian-athletes", source=source, root=tmp_path / "store")
    assert sorted(store.statements[0]) == [
        "normal ecg", "sinus arrhythmia", "sl12: borderline ecg", "sl12: right axis deviation",
        "sl12: sinus bradycardia with marked sinus arrhythmia",
    ]  # fmt: skip
    assert store.statements[1] == {
        "sinus bradycardia", "normal sinus rhythm", "first degree av block", "borderline ecg",
        "sl12: critical test result: stemi",
        "sl12: sinus bradycardia", "sl12: st elevation, consider early repolarization, pericarditis, or injury",
        "sl12: acute mi/stemi", "sl12: abnormal ecg",
    }  # fmt: skip
    assert store.labels("rhythm").tolist() == [[0, 1, 0], [1, 0, 1]]
    assert store.reports[0] == "Sinus arrhythmia, Normal ECG."
    assert all("stretched-leads" in flags for flags in store.quality_flags)


def test_an_athlete_whose_leads_have_their_own_spans_is_not_flagged(tmp_path: Path) -> None:
    write_wfdb(tmp_path / "ath_001", hearts(2)[0], 500, leads=UPPER, comments=["SL12: Normal ECG", "C: Normal ECG"])
    dataset = norwegian_athletes.NorwegianAthletes()
    assert dataset.signal(tmp_path, next(iter(dataset.infos(tmp_path)))).quality_flags == ()


def test_the_demo_has_patients_and_leads_by_name_and_no_labels(tmp_path: Path) -> None:
    source = demo_folder(tmp_path / "in")
    store = prepare(mimic_iv_ecg_demo.MIMICIVECGDemo(), name="mimic-iv-ecg-demo", source=source, root=tmp_path / "store")
    assert store.patient_ids.tolist() == ["10000032", "10000032", "10000033"]
    assert store.leads[0] == DEMO_ORDER
    assert list(store.tasks) == []


@pytest.mark.parametrize(
    ("module", "make"),
    [(brugada_huca, brugada_folder), (mimic_iv_ecg_demo, demo_folder), (norwegian_athletes, athletes_folder)],
)
def test_they_conform_but_for_stretched_leads(module: object, make: object, tmp_path: Path) -> None:
    """The athletes' limb leads miss Einthoven's law, which the checks find out as they should."""
    verdicts = check_component("dataset", module.melp_datasets()[0], source=make(tmp_path / "x"))  # type: ignore[attr-defined, operator]
    wrong = [v.property for v in verdicts if v.ok is False]
    assert wrong in ([], ["II = I + III"] if module is norwegian_athletes else [])
    if module is mimic_iv_ecg_demo:
        assert {v.property for v in verdicts if v.ok is None} >= {"every class has statements", "statements become labels"}
