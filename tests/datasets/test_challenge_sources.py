"""Every real folder is read by its dataset; the SNOMED vocabulary; and what the challenge's errata do."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import wfdb

from melp_bench.components import Dataset
from melp_bench.errors import UserError
from melp_bench.plugins import discover
from melp_bench.store import Store, prepare
from melp_plugins.datasets import snomed
from melp_plugins.datasets.cells import UnreadCells
from melp_plugins.datasets.challenge import header_info, read_with_erratum
from melp_plugins.datasets.cpsc2018 import CPSC2018
from melp_plugins.datasets.csn import CSN
from melp_plugins.datasets.wfdb_files import read_wfdb

REAL = os.environ.get("MELP_BENCH_REAL_ECG")
needs_records = pytest.mark.skipif(not REAL, reason="set MELP_BENCH_REAL_ECG to the folder of the sources' folders")
SOURCE = Path(REAL or "")
FOLDERS = {  # folder: dataset
    "chapman-shaoxing": "csn",
    "ningbo": "csn",
    "code-15": "code-15",
    "code-15/wfdb": "code-15",
    "code-15/ecg-fm-sample10": "code-15",
    "cpsc2018": "cpsc2018",
    "cpsc2018-original-mat": "cpsc2018",
    "georgia-g12ec": "g12ec",
    "ludb": "ludb",
    "ptb-diagnostic": "ptb-diagnostic",
    "ptb-xl": "ptb-xl",
    "ptb-xl-challenge-format": "ptb-xl-challenge",
}


def dataset(name: str) -> Dataset:
    return discover().datasets[name].build()


def read(name: str, folder: str, root: Path) -> Store:
    return prepare(dataset(name), name=name, source=SOURCE / folder, root=root / "store")


@needs_records
@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_is_read_whole_by_its_dataset(folder: str, tmp_path: Path) -> None:
    if not (SOURCE / folder).is_dir():
        pytest.skip(f"no folder {folder!r} here")
    store = read(FOLDERS[folder], folder, tmp_path)
    headers = {path.stem for path in (SOURCE / folder).rglob("*.hea")}
    structs = {path.stem.removeprefix("code_15_") for path in (SOURCE / folder).rglob("*.mat")}
    if folder == "ptb-xl":
        headers = {stem for stem in headers if stem.endswith("_hr")}
        assert set(store.manifest.quarantined) <= {"missing-file"}
        assert len(store) == len(headers)
    else:
        assert store.manifest.quarantined == {}
        assert set(store.record_ids) == headers | structs
    assert set(store.verdicts) == {"repaired" if folder == "ludb" else "ok"}  # its headers' gains are wrong


@needs_records
@pytest.mark.parametrize("folder", ["chapman-shaoxing", "ningbo", "georgia-g12ec", "ptb-xl-challenge-format"])
def test_statements_are_the_whole_codes_of_the_header(folder: str, tmp_path: Path) -> None:
    store = read(FOLDERS[folder], folder, tmp_path)
    for record, statements in zip(store.record_ids, store.statements, strict=True):
        lines = (SOURCE / folder / f"{record}.hea").read_text().splitlines()
        (line,) = [line for line in lines if line.lstrip("# ").startswith("Dx:")]
        assert statements == {code.strip() for code in line.split(":")[1].split(",")} - {""}
    for task in store.tasks:
        for row, had in zip(store.labels(task), store.statements, strict=True):
            assert row.tolist() == [bool(members & had) for members in store.task(task).members.values()]


@needs_records
def test_samples_of_the_challenges_mat_files_are_those_wfdb_reads() -> None:
    for folder, record in (("georgia-g12ec", "E00001"), ("ningbo", "JS20000"), ("cpsc2018", "A0001")):
        physical, _ = wfdb.rdsamp(str(SOURCE / folder / record))
        assert np.abs(read_wfdb(SOURCE, f"{folder}/{record}").millivolts.T - physical).max() < 1e-6


@needs_records
def test_ptb_leaves_out_the_frank_leads_and_keeps_its_rate(tmp_path: Path) -> None:
    store = read("ptb-diagnostic", "ptb-diagnostic", tmp_path)
    assert store.rates_hz.tolist() == [1000]
    assert len(store.leads[0]) == 12
    assert store.labels("admission")[0].tolist() == [c == "MI" for c in store.task("admission").classes]


@needs_records
def test_both_packagings_of_cpsc_read_age_sex_and_labels_by_record_name(tmp_path: Path) -> None:
    source = tmp_path / "both"
    shutil.copytree(SOURCE / "cpsc2018-original-mat", source)
    shutil.copy(SOURCE / "cpsc2018" / "cpsc2018_labels_all.csv", source)
    with (source / "cpsc2018_labels_all.csv").open(newline="") as file:
        rows = {row["filename"]: row for row in csv.DictReader(file)}
    store = prepare(CPSC2018(), name="cpsc2018", source=source, root=tmp_path / "store")
    for record, labels in zip(store.record_ids, store.labels("all"), strict=True):
        assert labels.tolist() == [rows[record][name] == "1" for name in store.task("all").classes]
    found = store.signal(0).millivolts
    struct = scipy.io.loadmat(source / f"{store.record_ids[0]}.mat")["ECG"][0, 0]
    assert np.abs(found - struct["data"]).max() < 1e-4
    assert store.ages[0] == struct["age"].item()


@needs_records
def test_the_original_table_counts_from_one(tmp_path: Path) -> None:
    shutil.copytree(SOURCE / "cpsc2018-original-mat", tmp_path / "s")
    ids = sorted(path.stem for path in (tmp_path / "s").glob("*.mat"))
    lines = [
        "Recording,First_label,Second_label,Third_label",
        f"{ids[0]},1,,",
        f"{ids[1]},2,5,9",
        f"{ids[2]},7,,",
        f"{ids[3]},4,3,",
    ]
    (tmp_path / "s" / "REFERENCE.csv").write_text("\n".join(lines))
    store = prepare(CPSC2018(), name="cpsc2018", source=tmp_path / "s", root=tmp_path / "store")
    classes = store.task("all").classes
    had = [{c for c, yes in zip(classes, row, strict=True) if yes} for row in store.labels("all").tolist()]
    assert had == [{"NORM"}, {"AFIB", "CRBBB", "STE"}, {"VPC"}, {"CLBBB", "1AVB"}]
    (tmp_path / "s" / "REFERENCE.csv").write_text("\n".join([*lines[:-1], f"{ids[3]},10,,"]))
    with pytest.raises(UserError, match="label '10'; wanted 1 to 9"):
        list(CPSC2018().infos(tmp_path / "s"))


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0", bytes(range(256)) * 4])
def test_a_broken_struct_is_quarantined(content: bytes, tmp_path: Path) -> None:
    scipy.io.savemat(
        tmp_path / "A0002.mat", {"ECG": {"sex": "Male", "age": 50, "data": np.random.default_rng(0).normal(0, 0.3, (12, 4000))}}
    )
    (tmp_path / "A0001.mat").write_bytes(content)
    store = prepare(CPSC2018(), name="cpsc2018", source=tmp_path, root=tmp_path / "store")
    assert store.manifest.quarantined == {"unreadable-samples" if content else "zero-byte-file": 1}
    assert (store.sexes.tolist(), store.ages.tolist()) == (["M"], [50])


def test_a_gain_of_4880_is_read_as_1000_and_said(tmp_path: Path) -> None:
    physical = np.random.default_rng(0).normal(0, 0.3, (4000, 12))
    lines = ["Age: NaN", "Sex: Female", "Dx: 426783006, 59118001"]
    wfdb.wrsamp("E00001", 500, ["mV"] * 12, [*snomed_leads()], physical, fmt=["16"] * 12, adc_gain=[1000.0] * 12,
                baseline=[0] * 12, write_dir=str(tmp_path), comments=lines)  # fmt: skip
    right = read_with_erratum(tmp_path, "E00001", erratum=4880.0)
    header = tmp_path / "E00001.hea"
    header.write_text(header.read_text().replace("1000.0(0)/mV", "4880(0)/mV"))
    mended = read_with_erratum(tmp_path, "E00001", erratum=4880.0)
    assert np.allclose(mended.millivolts, right.millivolts, atol=1e-6)
    assert (right.repairs, mended.repairs) == ((), ("gain-erratum",))
    store = prepare(dataset("g12ec"), name="g12ec", source=tmp_path, root=tmp_path / "store")
    assert store.verdicts == ["repaired"]
    info = header_info(tmp_path, header, UnreadCells())
    assert (info.age, info.sex, info.statements) == (None, "F", {"426783006", "59118001"})


def snomed_leads() -> tuple[str, ...]:
    return ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


@pytest.mark.parametrize("name", ["csn", "g12ec", "cpsc2018", "ptb-diagnostic", "ptb-xl-challenge"])
def test_a_folder_without_its_records_is_the_users_to_mend(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--from|give the folder"):
        prepare(dataset(name), name=name, source=tmp_path, root=tmp_path / "store")


def test_the_published_selection_is_38_classes_and_acronyms_are_never_parts_of_others() -> None:
    tasks = CSN().tasks
    assert len(tasks["published"].classes) == 38
    assert tasks["published"].members["ST"] == {"427084000"}
    assert tasks["published"].members["STTC"] == {"428750005"}
    assert tasks["published"].members["AF"] == {"164890007"}
    members = [next(iter(codes)) for codes in tasks["published"].members.values()]
    assert len(set(members)) == 38


def test_all_has_exactly_the_statements_of_ten_records_or_more() -> None:
    codes = set().union(*CSN().tasks["all"].members.values()) - {"233896004"}
    assert codes == {s.code for s in snomed.statements().values() if s.records.get("csn", 0) >= 10}
    assert len(CSN().tasks["all"].classes) == len(codes)
    assert len(snomed.scored().classes) == 26


def test_cpsc_has_as_many_positives_as_published() -> None:
    counts = {name: snomed.statements()[code].records["cpsc2018"] for name, code in snomed.CPSC_CLASSES.items()}
    assert counts == {"AFIB": 1221, "VPC": 700, "NORM": 918, "1AVB": 722, "CRBBB": 1857, "STE": 220, "PAC": 616, "CLBBB": 236,
                      "STD": 869}  # fmt: skip


def test_a_record_or_its_labels_that_are_there_twice_are_told(tmp_path: Path) -> None:
    """The last of two was taken."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "A0001.hea").write_text("A0001 12 500 5000\n# Dx: 426783006\n")
    with pytest.raises(UserError, match="record 'A0001' is there twice"):
        list(CPSC2018().infos(tmp_path))
    (tmp_path / "b" / "A0001.hea").unlink()
    (tmp_path / "REFERENCE.csv").write_text("Recording,First_label,Second_label,Third_label\nA0001,1,,\nA0001,2,,\n")
    with pytest.raises(UserError, match=r"REFERENCE\.csv line 3: 'A0001' had other labels before"):
        list(CPSC2018().infos(tmp_path))
