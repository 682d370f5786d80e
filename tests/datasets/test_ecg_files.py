"""A hospital's folder of vendor files: which records it becomes, what is taken along, what a table says, what is told."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hospital_folder import STRIP, everybody, made
from vendor_files import EIGHT, rows
from vendor_xml import muse, muse_waveform

from melp_bench.errors import UserError
from melp_bench.pseudonyms import pseudonym
from melp_bench.registry import Entry
from melp_bench.signal import SignalSpec, conform
from melp_bench.splits import hash_fold
from melp_bench.store import prepare
from melp_bench.testing import check_component
from melp_plugins.datasets.ecg_files import ECGFiles, melp_datasets
from melp_plugins.datasets.wfdb_folder import WFDBFolder

pytest.importorskip("ecgdatakit", reason="pip install 'melp-bench[vendor]'")
pytest.importorskip("pydicom", reason="pip install 'melp-bench[vendor]'")
pytestmark = pytest.mark.usefixtures("own_home")
ENTRY: Entry = melp_datasets()[0]


def test_a_mix_of_files_becomes_records_of_one_patient(tmp_path: Path) -> None:
    store = made(everybody(tmp_path / "s"), tmp_path)
    assert store.record_ids.tolist() == ["a.xml", "b.xml", "e.ecg", "f.mwf", "g.dcm", "ward/2024/d.scp", "ward/c.xml"]
    assert store.manifest.quarantined == {}
    assert len(set(store.patient_ids.tolist())) == 1
    assert set(store.folds.tolist()) == {hash_fold(store.patient_ids[0])}
    assert set(store.sexes.tolist()) == {"F"}
    assert set(store.ages.tolist()) == {90.0}, "92 and 93 years are hidden"
    assert store.reports[0] == "Sinus rhythm. Left axis deviation, as told by Ms. ___ born ___. Changed as ___ noted."
    assert store.reports[4] == "Normal ECG of ___."
    assert store.statements[6] == {"report: sinus rhythm"}
    assert store.leads[0] == EIGHT, "a store keeps what the source had"
    spec = SignalSpec(rate_hz=500, seconds=3)
    import torch

    twelve = [
        conform(torch.from_numpy(signal.millivolts)[None], rate_hz=500, leads=signal.leads, spec=spec)
        for signal in map(store.signal, range(7))
    ]
    for one in twelve[1:]:
        assert np.allclose(one, twelve[1], atol=1e-5)
    assert np.allclose(twelve[0], twelve[1], atol=0.0076), "III, aVR, aVL and aVF by algebra, others to half a unit each"


def test_measurements_are_taken_along(tmp_path: Path) -> None:
    info = next(ECGFiles().infos(everybody(tmp_path / "s")))
    assert info.measurements == {"heart_rate": 61, "pr_interval": 158, "qt_interval": 402}


def test_it_conforms_with_and_without_a_folder(tmp_path: Path) -> None:
    (everybody(tmp_path / "s") / "labels.csv").write_text("record,AF\na,1\nb,0\ne,0\n")
    for source in (None, tmp_path / "s"):
        assert [v for v in check_component("dataset", ENTRY, source=source) if v.ok is False] == []


def test_a_table_says_which_records_there_are_and_what_they_show(tmp_path: Path) -> None:
    source = everybody(tmp_path / "s")
    (source / "labels.csv").write_text(
        "record,patient,age,fold,AF,report\na.xml,p1,50,3,1,Atrial fibrillation.\nward\\c,p2,,4,0,\nnone.xml,p3,,5,1,\n"
        "../../x.xml,p4,,5,1,\n"
    )
    told: list[str] = []
    store = prepare(ECGFiles(), name="ecg-files", source=source, root=tmp_path / "store", tell=told.append)
    assert store.record_ids.tolist() == ["a.xml", "ward/c.xml"]
    assert store.task("all").classes == ("AF",)
    assert store.labels("all").ravel().tolist() == [True, False]
    assert store.ages.tolist() == [50.0, 92.0 - 2]
    assert store.folds.tolist() == [3, 4]
    assert store.reports[0] == "Atrial fibrillation."
    assert store.reports[1] == "Sinus rhythm."
    assert store.manifest.quarantined == {"missing-file": 1, "unsafe-path": 1}
    assert store.patient_ids[0] == pseudonym("patient p1")
    assert told[0] == "labels.csv: record, patient, age, report, fold; no sex; class 'AF'"
    assert any("5 ECG files are not in labels.csv and left out, 'b.xml' one" in line for line in told)
    assert any("files that are no ECG were left out: 1 .pdf" in line for line in told)


def test_mistakes_are_told_in_a_line(tmp_path: Path) -> None:
    source = everybody(tmp_path / "s")
    for table, said in (
        ("name,AF\na.xml,1\n", "lacks the columns"),
        ("record,patient_id\na.xml,1\n", "is it the patient"),
        ("record,patient\na.xml,1.23457E+11\n", "a number that a spreadsheet shortened"),
        ("record,AF\na,1\na.xml,0\n", "lists the record 'a.xml' twice"),
    ):
        (source / "labels.csv").write_text(table)
        with pytest.raises(UserError, match=said):
            made(source, tmp_path)
    shutil.copy(source / "a.xml", source / "a.scp")
    (source / "labels.csv").write_text("record,AF\na,1\n")
    with pytest.raises(UserError, match=r"is 'a.xml' or 'a.scp'; give it with its ending"):
        made(source, tmp_path)
    with pytest.raises(UserError, match=r"cannot read .*other.csv"):
        made(source, tmp_path, labels="other.csv")
    for options, said in (({"unit": "mmHg"}, "wanted hertz, and uV"), ({"record_names": "x"}, "wanted file or digest")):
        with pytest.raises(UserError, match=said):
            ECGFiles(**options)  # type: ignore[arg-type]


def test_a_folder_without_an_ecg_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    for name in ("1.hea", "1.dat"):
        (tmp_path / "s" / name).write_text("x")
    with pytest.raises(UserError, match=r"holds no ECG file that is read; it has .*1 .hea.*wfdb-folder"):
        made(tmp_path / "s", tmp_path)


def test_the_dataset_of_wfdb_sends_here(tmp_path: Path) -> None:
    """It said "take the dataset of these files", and there was none."""
    source = everybody(tmp_path / "s")
    with pytest.raises(
        UserError, match=r"holds DICOM and ISHNE and MFER and SCP-ECG and XML files .* prepare ecg-files --from"
    ):
        list(WFDBFolder().infos(source))


def test_files_that_were_meant_to_be_records_are_quarantined_and_never_dropped(tmp_path: Path) -> None:
    source = tmp_path / "s"
    source.mkdir()
    (source / "a.xml").write_bytes(muse(muse_waveform("Rhythm", rows(STRIP, EIGHT), EIGHT)))
    (source / "b.xml").write_text("<html></html>")
    (source / "c.scp").write_bytes(b"")
    (source / "d.dcm").write_bytes(b"\0" * 200)
    (source / "e.XML").write_bytes((source / "a.xml").read_bytes()[:-3000])
    os.mkfifo(source / "f.xml")  # to open it would be to wait for ever
    store = made(source, tmp_path)
    assert store.record_ids.tolist() == ["a.xml"]
    assert store.manifest.quarantined == {"unreadable-samples": 1, "unsupported-format": 2, "zero-byte-file": 1}


def test_leads_of_the_device_are_named_by_an_option(tmp_path: Path) -> None:
    source = tmp_path / "s"
    source.mkdir()
    (source / "a.xml").write_bytes(muse(muse_waveform("Rhythm", rows(STRIP, ("I", "II", "V1")), ("I", "II", "Brust 1"))))
    assert made(source, tmp_path).leads[0] == ("I", "II")
    assert made(source, tmp_path, "other", leads=("Brust 1=V1",)).leads[0] == ("I", "II", "V1")


def test_a_table_without_patients_leaves_them_to_the_files_and_says_so(tmp_path: Path) -> None:
    """It was told that every record is a patient of its own, while the files named them."""
    source = everybody(tmp_path / "s")
    (source / "labels.csv").write_text("record,AF\na,1\nb,0\n")
    dataset = ECGFiles()
    first, second = dataset.infos(source)
    assert first.patient_id == second.patient_id == pseudonym("patient mrn7719364")
    assert "; patients are those of the files; class 'AF'" in dataset.remarks[0]
