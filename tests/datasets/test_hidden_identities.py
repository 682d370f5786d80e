"""Who a record is of: one pseudonym a patient, and no name, number or date of birth anywhere in a store."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from holter_and_monitor_records import edf
from hospital_folder import SOMEONE, STRIP, assert_nobody, everybody, made
from scp_ecg_records import scp

from melp_bench.leads import LEADS
from melp_bench.pseudonyms import pseudonym
from melp_bench.store import prepare
from melp_plugins.datasets.ecg_file import Identity
from melp_plugins.datasets.ecg_files import ECGFiles

pytest.importorskip("ecgdatakit", reason="pip install 'melp-bench[vendor]'")
pytest.importorskip("pydicom", reason="pip install 'melp-bench[vendor]'")
pytestmark = pytest.mark.usefixtures("own_home")


def test_no_name_number_or_date_of_birth_is_anywhere_in_a_store(tmp_path: Path) -> None:
    source = everybody(tmp_path / "s")
    (source / "labels.csv").write_text(
        "record,patient,report,AF\n"
        + "".join(f"{name},{SOMEONE.number},Ms. {SOMEONE.last} has AF,1\n" for name in ("a.xml", "ward/c", "g"))
    )
    made(source, tmp_path)
    assert_nobody(tmp_path / "store", [*SOMEONE.secrets, "Overbeck"])
    (source / "labels.csv").unlink()
    made(source, tmp_path, "other")
    assert_nobody(tmp_path / "other", SOMEONE.secrets)


def test_records_whose_files_are_named_by_patients_are_named_by_digests(tmp_path: Path) -> None:
    source = everybody(tmp_path / "s")
    (source / "a.xml").rename(source / f"{SOMEONE.last.upper()}_{SOMEONE.number}_19310723.xml")
    (source / "broken.scp").write_bytes(scp(STRIP)[:-9])
    told: list[str] = []
    store = prepare(ECGFiles(), name="ecg-files", source=source, root=tmp_path / "store", tell=told.append)
    assert "1 names of files tell who the patient is: all records are named by digests" in told
    assert_nobody(tmp_path / "store", [*SOMEONE.secrets, "ward", "broken"])
    assert len(store) == 7
    again = prepare(ECGFiles(), name="ecg-files", source=source, root=tmp_path / "again", workers=2)
    assert again.fingerprint == store.fingerprint
    assert len(set(store.patient_ids.tolist())) == 1


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (Identity("a7"), Identity(" A7 "), True),
        (Identity("a7", ("Ann",)), Identity("a7", ("Bea",)), True),
        (Identity("", ("Ann  Lee",)), Identity("000000", ("ann", "lee")), True),
        (Identity("a7"), Identity("a8"), False),
    ],
)
def test_a_patient_is_told_by_number_and_without_one_by_name(one: Identity, other: Identity, alike: bool) -> None:
    assert (one.patient_id == other.patient_id) == alike


NOBODY = ["", "0000", "unknown", "N/A", "X", "X X X X", "X F X X", "ANONYMOUS", "ANONYMOUS^PATIENT", "Test, Patient", "REMOVED",
          "De-identified"]  # fmt: skip


@pytest.mark.parametrize("text", NOBODY)
def test_who_is_not_named_is_a_patient_of_its_own(text: str) -> None:
    """All files from which a tool had taken the names were of one person, and "patient" was blotted out of their reports."""
    for nobody in (Identity(text), Identity(names=(text,), born=date(1931, 7, 23)), Identity("-", tuple(text.split("^")))):
        assert nobody.patient_id is None
        assert nobody.blotted("Patient paced, test") == "Patient paced, test"
        assert not nobody.is_told_by("patient_test_1.xml")


@pytest.mark.parametrize("name", ["Ida Noel", "De Vries", "Xaver", "Patient Smith", "X7"])
def test_a_name_that_begins_like_nobodys_is_a_name(name: str) -> None:
    assert Identity(names=(name,)).patient_id == Identity(names=tuple(name.split())).patient_id is not None
    assert Identity(name).patient_id is not None


def test_files_without_a_patient_are_not_of_one(tmp_path: Path) -> None:
    """EDF's "X X X X" was a number, and every file of such a folder in one fold."""
    source = tmp_path / "s"
    source.mkdir()
    for number in range(3):
        (source / f"{number}.edf").write_bytes(edf(STRIP, LEADS))
    store = made(source, tmp_path)
    assert len(set(store.patient_ids.tolist())) == store.manifest.num_patients == 3


def test_a_decimal_behind_a_number_is_dropped_and_said(tmp_path: Path) -> None:
    """It was dropped, and not said."""
    source = everybody(tmp_path / "s")
    (source / "labels.csv").write_text("record,patient\na.xml,12.0\nb.xml,12\n")
    dataset = ECGFiles()
    first, second = dataset.infos(source)
    assert first.patient_id == second.patient_id == pseudonym("patient 12")
    assert dataset.remarks[0].endswith("; no class")
    assert "patient ids with a decimal: 1, '12.0' for one; read without it" in dataset.remarks
