"""A word for "not known" in any table of any dataset: no patient, report, age, sex or statement, or the row is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from source_folders import write_table

import melp_bench as mb
from melp_bench.errors import UserError
from melp_bench.store.record_list import list_records
from melp_plugins.datasets.chapman_original import ChapmanOriginal
from melp_plugins.datasets.code import CLASSES, CODE15
from melp_plugins.datasets.ecg_files import ECGFiles
from melp_plugins.datasets.echonext import EchoNext
from melp_plugins.datasets.mimic_iv_ecg import MIMICIVECG
from melp_plugins.datasets.mimic_iv_ecg_demo import MIMICIVECGDemo
from melp_plugins.datasets.ptb_xl import PTBXL
from melp_plugins.datasets.sami_trop import SaMiTrop
from melp_plugins.datasets.sph import SPH
from melp_plugins.datasets.wfdb_folder import WFDBFolder
from melp_plugins.datasets.zzu_pecg import ZZUpECG

WORDS = ("nan", "NaN", "None", "NULL", "N/A", "NA", "-", "unknown")


@dataclass(frozen=True)
class Table:
    """A whole row of a dataset's table, its columns that may say nothing, and the one without which the row is refused."""

    build: Callable[[], mb.Dataset]
    file: str
    row: dict[str, object]
    record: str
    said: tuple[str, ...]
    needed: str = ""
    always: frozenset[str] = frozenset()  # statements of every record


FLAGS = {"shd_moderate_or_greater_flag": 0} | {next(iter(found)): 0 for found in EchoNext().tasks["findings"].members.values()}
SIX = dict.fromkeys(CLASSES, 0)
LINES = {f"report_{n}": "" for n in range(18)}
STUDY = {"subject_id": 7, "study_id": 1, "path": "x"}
TABLES = {
    "wfdb-folder": Table(
        WFDBFolder,
        "labels.csv",
        {"record": "1", "patient": "p", "age": 5, "sex": "F", "report": "Sinus.", "AF": 1},
        "record",
        ("patient", "age", "sex", "report", "AF"),
    ),
    "ecg-files": Table(
        ECGFiles,
        "labels.csv",
        {"record": "1", "patient": "p", "age": 5, "sex": "F", "report": "Sinus.", "AF": 1},
        "record",
        ("patient", "age", "sex", "report", "AF"),
    ),
    "ptb-xl": Table(
        PTBXL,
        "ptbxl_database.csv",
        {"ecg_id": 1, "patient_id": 7, "age": 5, "sex": 1, "report": "sinus", "scp_codes": "{}", "strat_fold": 3,
         "filename_hr": "x", "filename_lr": "y"},
        "ecg_id",
        ("patient_id", "age", "sex", "report"),
    ),
    "code-15": Table(
        CODE15,
        "exams.csv",
        {"exam_id": 1, "age": 5, "is_male": 1, "patient_id": 7, "trace_file": "x.hdf5"} | SIX,
        "exam_id",
        ("patient_id", "age", "is_male", *CLASSES),
    ),
    "sami-trop": Table(
        SaMiTrop,
        "exams.csv",
        {"exam_id": 1, "age": 5, "is_male": 1, "death": 0},
        "exam_id",
        ("age", "is_male", "death"),
        always=frozenset({"chagas"}),
    ),
    "sph": Table(
        SPH,
        "metadata.csv",
        {"ECG_ID": "A1", "AHA_Code": "22", "Patient_ID": "S1", "Age": 5, "Sex": "F", "N": 9},
        "ECG_ID",
        ("Patient_ID", "Age", "Sex", "AHA_Code"),
    ),
    "zzu-pecg": Table(
        ZZUpECG,
        "AttributesDictionary.csv",
        {"Filename": "x", "ECG_ID": "E1", "Patient_ID": "P1", "Age": "5d", "Gender": "'Male'", "AHA_code": "'A1'",
         "ICD-10 code": "'I40.9'"},
        "ECG_ID",
        ("Patient_ID", "Age", "Gender", "AHA_code", "ICD-10 code"),
    ),
    "chapman-original": Table(
        ChapmanOriginal,
        "Diagnostics.csv",
        {"FileName": "x", "Rhythm": "SB", "Beat": "RBBB", "PatientAge": 5, "Gender": "MALE"},
        "FileName",
        ("Rhythm", "Beat", "PatientAge", "Gender"),
    ),
    "mimic-iv-ecg": Table(MIMICIVECG, "machine_measurements.csv", STUDY | LINES, "study_id", tuple(LINES), "subject_id"),
    "mimic-iv-ecg-demo": Table(MIMICIVECGDemo, "record_list.csv", STUDY, "study_id", (), "subject_id"),
    "echonext": Table(
        EchoNext,
        "echonext_metadata_100k.csv",
        {"ecg_key": 1, "patient_key": "p", "split": "train", "age_at_ecg": 5, "sex": "male"} | FLAGS,
        "ecg_key",
        ("age_at_ecg", "sex"),
        "patient_key",
        frozenset(f"no {flag}" for flag in FLAGS),
    ),
}  # fmt: skip


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the tables that a dataset reads beside the one in question."""
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "home"))
    write_table(tmp_path / "record_list.csv", [STUDY | {"study_id": n} for n in range(len(WORDS) + 1)])
    write_table(tmp_path / "machine_measurements.csv", [STUDY | LINES])
    write_table(tmp_path / "DiseaseCode.csv", [{"Disease Type": "Myocarditis", "ICD-10 Code": "I40.9"}])
    return tmp_path


@pytest.mark.parametrize("name", sorted(name for name, table in TABLES.items() if table.said))
def test_a_word_for_nothing_says_nothing_in_any_table(name: str, source: Path) -> None:
    """In `patient` it was one person, in one fold; as a report it was pretrained on."""
    table = TABLES[name]
    write_table(
        source / table.file,
        [table.row | {table.record: n} | dict.fromkeys(table.said, word) for n, word in enumerate(WORDS, 1)],
    )
    infos = list_records(table.build(), source)[0]
    assert len(infos) >= len(WORDS)
    for info in infos:
        assert (info.age, info.sex, info.report, info.statements) == (None, None, "", table.always)
        assert table.needed or info.patient_id is None


@pytest.mark.parametrize("name", sorted(name for name, table in TABLES.items() if table.needed))
def test_a_row_of_nobody_is_refused_where_every_row_has_a_patient(name: str, source: Path) -> None:
    table = TABLES[name]
    file = "record_list.csv" if "study_id" in table.row else table.file
    for word in WORDS:
        write_table(source / file, [table.row | {table.needed: word}])
        with pytest.raises(UserError, match="wanted a whole row"):
            list_records(table.build(), source)
