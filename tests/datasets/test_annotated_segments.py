"""INCART and the Leipzig Heart Center, long records with annotated beats, from folders made in their form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import wfdb
from source_folders import hearts, write_table, write_wfdb

from melp_bench.errors import UserError
from melp_bench.records import BadRecord
from melp_bench.signal import LEADS
from melp_bench.store import prepare
from melp_bench.testing import check_component
from melp_plugins.datasets import incart, leipzig
from melp_plugins.datasets.annotated_segments import read_annotations, segments
from melp_plugins.datasets.wfdb_files import read_wfdb

UPPER = tuple(lead.upper() for lead in LEADS)


def incart_folder(root: Path) -> Path:
    """Return a folder in the form of INCART: two excerpts of a patient and one of another, of 25 s at 257 Hz."""
    root.mkdir(parents=True)
    people = [
        ("1", "<age>: 65 <sex>: F <diagnoses> Coronary artery disease, arterial hypertension"),
        ("1", ""),
        ("2", "<age>: 54 <sex>: M"),
    ]
    people[1] = ("1", people[0][1])
    for number, (patient, person) in enumerate(people, 1):
        write_wfdb(root / f"I{number:02d}", hearts(3, 257.0, 25.0)[number - 1], 257, leads=UPPER, gain=500.0 + 10 * number,
                   comments=[person, f"patient {patient}", "PVCs, noise,"])  # fmt: skip
        samples, symbols, notes = [100, 2569, 2570, 5139, 5140, 6000], list("NVNA+R"), ["", "", "", "", "(AFIB", ""]
        wfdb.wrann(f"I{number:02d}", "atr", np.array(samples), symbols, aux_note=notes, write_dir=str(root))
    return root


def leipzig_folder(root: Path) -> Path:
    """Return a folder in the form of the Leipzig Heart Center: a child and an adult, with catheters' channels."""
    root.mkdir(parents=True)
    custom = [(42, "X", "Tachycardias"), (43, "b", "AV-Block")]
    for record, extra in (("x001", ("ABL12", "RVA12")), ("x100", ("RVA12",))):
        heart = hearts(2, 977.0, 21.0)[record == "x100"]
        made = np.concatenate([heart, np.stack([heart[1] * 3] * len(extra))])
        write_wfdb(root / record, made, 977, leads=(*LEADS, *extra))
        wfdb.wrann(record, "atr", np.array([500, 5000, 9800, 15000, 19000, 20400]), ["N", "N", "X", "X", "+", "V"],
                   aux_note=["N-Prex", "", "avrt", "AVNRT+BII", "(VT", ""], custom_labels=custom,
                   write_dir=str(root))  # fmt: skip
    row = {"subject_id": "001", "file_name": "x001", "gender": "M", "age": ".14.3", "diagnosis": "AVRT-WPW"}
    write_table(root / "children-subject-info.csv", [{**row, "ap_loacation": "left", "ecg_duration": "0:00:21.0"}])
    write_table(
        root / "adults-subject-info.csv",
        [{**row, "file_name": "x100", "gender": "F", "age": "64.16", "diagnosis": "TOF with VT"}],
    )
    return root


def test_incarts_segments_have_the_beats_between_their_ends(tmp_path: Path) -> None:
    """A beat at sample 2,569 is of the first ten seconds at 257 Hz, one at 2,570 of the next; the rest of 25 s is left out."""
    source = incart_folder(tmp_path / "in")
    store = prepare(incart.INCART(), name="incart", source=source, root=tmp_path / "store")
    assert store.record_ids.tolist() == [f"I{n:02d}-{k:04d}" for n in (1, 2, 3) for k in (0, 1)]
    assert store.patient_ids.tolist() == ["patient01"] * 4 + ["patient02"] * 2
    ill = ["diagnosis: arterial hypertension", "diagnosis: coronary artery disease"]
    assert [sorted(had) for had in store.statements[:2]] == [["beat: N", "beat: V", *ill], ["beat: A", "beat: N", *ill]]
    assert sorted(store.statements[4]) == ["beat: N", "beat: V"]
    assert store.labels("beats").tolist()[:2] == [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0]]
    assert set(store.reports) == {"PVCs, noise."}


def test_a_segment_is_that_part_of_the_whole_record(tmp_path: Path) -> None:
    source = incart_folder(tmp_path / "in")
    dataset = incart.INCART(seconds=5.0)
    infos = list(dataset.infos(source))
    assert len(infos) == 3 * 5
    whole = read_wfdb(source, "I02").millivolts
    physical, _ = wfdb.rdsamp(str(source / "I02"))
    parts = [dataset.signal(source, info).millivolts for info in infos if info.record_id.startswith("I02")]
    assert np.array_equal(np.concatenate(parts, axis=1), whole[:, : 5 * 1285])
    assert np.abs(whole.T - physical).max() < 1e-6
    assert infos[3].statements >= {"beat: A"}
    assert infos[4].statements >= {"beat: R", "rhythm: afib"}
    assert dataset.signal(source, infos[0]).leads == UPPER


@pytest.mark.parametrize("fmt", ["16", "212", "24", "516"])
def test_a_part_of_any_format_is_the_same_samples(fmt: str, tmp_path: Path) -> None:
    made = hearts(1)[0][:2].T.astype(float)
    wfdb.wrsamp(
        "r", 500, ["mV"] * 2, ["I", "II"], made, fmt=[fmt] * 2, adc_gain=[200.0] * 2, baseline=[0] * 2, write_dir=str(tmp_path)
    )
    whole = read_wfdb(tmp_path, "r").millivolts
    assert np.array_equal(read_wfdb(tmp_path, "r", part=range(1001, 1777)).millivolts, whole[:, 1001:1777])
    for part in (range(4990, 5001), range(-1, 5), range(7, 7)):
        with pytest.raises(BadRecord, match="the record has 5000 samples"):
            read_wfdb(tmp_path, "r", part=part)


def test_leipzigs_tachycardias_are_told_by_their_notes_and_catheters_left_out(tmp_path: Path) -> None:
    source = leipzig_folder(tmp_path / "in")
    store = prepare(leipzig.Leipzig(), name="leipzig", source=source, root=tmp_path / "store")
    assert store.record_ids.tolist() == ["x001-0000", "x001-0001", "x100-0000", "x100-0001"]
    assert sorted(store.statements[0]) == ["beat: N", "beat: n-prex", "diagnosis: avrt-wpw"]
    assert sorted(store.statements[3]) == ["diagnosis: tof with vt", "rhythm: vt", "tachycardia: avnrt", "tachycardia: avrt"]
    assert store.labels("rhythm").tolist()[0] == [1, 0, 0, 0, 0, 0]
    assert store.labels("rhythm").tolist()[3] == [0, 1, 1, 0, 0, 0]
    assert store.labels("diagnosis").tolist() == [[1, 0, 0]] * 2 + [[0, 0, 1]] * 2
    assert set(store.leads) == {LEADS}
    infos = list(leipzig.Leipzig().infos(source))
    assert [info.age for info in infos] == [14.3, 14.3, 64.16, 64.16]
    signal = leipzig.Leipzig().signal(source, infos[1])
    assert signal.rate_hz == 977.0
    assert signal.steps is not None
    assert len(signal.steps) == 12
    assert np.array_equal(signal.millivolts, read_wfdb(source, "x001").millivolts[:12, 9770:19540])


@pytest.mark.parametrize("module", [incart, leipzig])
def test_both_conform(module: object, tmp_path: Path) -> None:
    source = incart_folder(tmp_path / "x") if module is incart else leipzig_folder(tmp_path / "x")
    verdicts = check_component("dataset", module.melp_datasets()[0], source=source)  # type: ignore[attr-defined]
    assert [v for v in verdicts if v.ok is False] == []


def test_annotations_come_in_order_and_a_missing_or_broken_file_is_told(tmp_path: Path) -> None:
    source = incart_folder(tmp_path / "in")
    assert [(one.sample, one.symbol, one.note) for one in read_annotations(source / "I01")][3:5] == [
        (5139, "A", ""),
        (5140, "+", "AFIB"),
    ]
    (source / "I02.atr").unlink()
    with pytest.raises(UserError, match=r"I02\.atr' is not there; fetch it again, or take its record out of the folder"):
        list(incart.INCART().infos(source))
    with pytest.raises(UserError, match=r"seconds is 0\.5; wanted 2 to 600"):
        incart.INCART(seconds=0.5)
    bad = leipzig_folder(tmp_path / "l")
    (bad / "adults-subject-info.csv").unlink()
    with pytest.raises(UserError, match=r"no adults-subject-info\.csv"):
        list(leipzig.Leipzig().infos(bad))


def test_a_record_without_a_readable_header_is_listed_once_and_quarantined(tmp_path: Path) -> None:
    source = incart_folder(tmp_path / "in")
    (source / "I02.hea").write_text("I02 12 0 0\n")
    assert list(segments(source, "I02", 10.0, [])) == [("I02-0000", "I02#0", [])]
    store = prepare(incart.INCART(), name="incart", source=source, root=tmp_path / "store")
    assert sum(store.manifest.quarantined.values()) == 1
    assert len(store) == 4
