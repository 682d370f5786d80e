"""Who a record is of: one pseudonym a patient, and no name, number or date of birth anywhere in a store."""

from __future__ import annotations

from pathlib import Path

import pytest
from hospital_folder import SOMEONE, STRIP, assert_nobody, everybody, made
from scp_ecg_records import scp

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


def test_who_is_not_named_is_a_patient_of_its_own() -> None:
    assert [Identity(number).patient_id for number in ("", "0000", "unknown", "N/A")] == [None] * 4
