"""SPH and ZZU pECG, whose findings are AHA statements, from folders made in their form."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import wfdb
from source_folders import hearts, write_table, write_wfdb

from melp_bench.errors import UserError
from melp_bench.signal import LEADS
from melp_bench.store import prepare
from melp_bench.testing import check_component
from melp_plugins.datasets import aha, sph, zzu_pecg

CODES = ["1", "22;23", "60+310;147", "145+362+317;999"]
NINE = tuple(lead for lead in LEADS if lead not in ("V2", "V4", "V6"))


def sph_folder(root: Path) -> Path:
    """Return a folder in the form of SPH: HDF5 files of float16 beside two tables."""
    (root / "records").mkdir(parents=True)
    rows = []
    for number, (millivolts, code) in enumerate(zip(hearts(4), CODES, strict=True), 1):
        record = f"A{number:05d}"
        with h5py.File(root / "records" / f"{record}.h5", "w") as file:
            file["ecg"] = millivolts.astype(np.float16)
        rows.append({"ECG_ID": record, "AHA_Code": code, "Patient_ID": f"S{1 + number // 3:05d}", "Age": 50 + number,
                     "Sex": "MF"[number % 2], "N": millivolts.shape[1], "Date": "2020-01-01"})  # fmt: skip
    write_table(root / "metadata.csv", rows)
    write_table(root / "code.csv", [{"Category": "A", "Code": 1, "Description": "Normal ECG"}])
    return root


def zzu_folder(root: Path) -> Path:
    """Return a folder in the form of ZZU pECG; its second child's record has nine leads."""
    root.mkdir(parents=True)
    said = [
        ("572d", "'Female'", "'Left ventricular high voltage';'L147'", "'(OSD) Q21.1';'I34.0'", LEADS),
        ("1d", "'Male'", "'L145+Modifier362'", "Null", NINE),
        ("5474d", "'Male'", "'A1'", "'I40.9'", LEADS),
    ]
    rows = []
    for number, (age, gender, found, icd, leads) in enumerate(said, 1):
        patient = f"P{number:05d}"
        name = f"{patient[:3]}/{patient}/{patient}_E01"
        rows_ = [LEADS.index(lead) for lead in leads]
        write_wfdb(root / "Child_ecg" / name, hearts(3)[number - 1][rows_], 500, leads=[lead.upper() for lead in leads])
        rows.append({"Filename": name, "ECG_ID": f"{patient}_E01", "Patient_ID": patient, "Age": age, "Gender": gender,
                     "Acquisition_date": "2019-01-01", "Sampling_point": 5000, "Lead": len(leads), "AHA_code": found,
                     "CHN_code": found, "ICD-10 code": icd, "pSQI": "'I':0.288", "basSQI": "", "bSQI": ""})  # fmt: skip
    write_table(root / "AttributesDictionary.csv", rows)
    diseases = [("Congenital \nheart disease", "(OSD) Q21.1"), ("Myocarditis", "I40.9"), ("Other diseases(OD)", "See file")]
    write_table(
        root / "DiseaseCode.csv",
        [{"Disease Type": kind, "Disease Category": "", "ICD-10 Code": code} for kind, code in diseases],
    )
    return root


def test_sph_has_its_samples_patients_and_whole_statements(tmp_path: Path) -> None:
    source = sph_folder(tmp_path / "in" / "SPH")
    told: list[str] = []
    store = prepare(sph.SPH(), name="sph", source=tmp_path / "in", root=tmp_path / "store", tell=told.append)
    assert store.record_ids.tolist() == ["A00001", "A00002", "A00003", "A00004"]
    assert store.patient_ids.tolist() == ["S00001", "S00001", "S00002", "S00002"]
    assert [sorted(had) for had in store.statements] == [
        ["1"], ["22", "23"], ["147", "60", "60+310"], ["145", "145+362+317"],
    ]  # fmt: skip
    assert any("AHA_Code: 1 cells ('999' 1) not understood" in line for line in told)
    classes = store.task("all").classes
    had = [{c for c, yes in zip(classes, row, strict=True) if yes} for row in store.labels("all").tolist()]
    assert had == [{"NORM"}, {"SBRAD", "SARRH"}, {"PVC", "TAB"}, {"STDEV"}]
    for number in range(4):
        with h5py.File(source / "records" / f"A{number + 1:05d}.h5") as file:
            wanted = file["ecg"][:].astype(np.float32)
        stored = sph.SPH().signal(
            source.parent, next(i for i in sph.SPH().infos(source.parent) if i.record_id == store.record_ids[number])
        )
        assert np.array_equal(stored.millivolts, wanted)
        assert stored.leads == LEADS


def test_zzu_has_findings_diseases_days_and_nine_leads_by_their_names(tmp_path: Path) -> None:
    source = zzu_folder(tmp_path / "zzu")
    store = prepare(zzu_pecg.ZZUpECG(), name="zzu-pecg", source=source, root=tmp_path / "store")
    assert [sorted(had) for had in store.statements] == [
        ["147", "disease: congenital heart disease", "icd-10: (OSD) Q21.1", "icd-10: I34.0", "left ventricular high voltage"],
        ["145", "145+362"],
        ["1", "disease: myocarditis", "icd-10: I40.9"],
    ]
    assert store.leads[1] == NINE
    assert store.labels("disease").tolist() == [[1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]]
    infos = list(zzu_pecg.ZZUpECG().infos(source))
    assert [info.age for info in infos] == pytest.approx([572 / 365.25, 1 / 365.25, 5474 / 365.25])
    assert [info.sex for info in infos] == ["F", "M", "M"]
    wanted, _ = wfdb.rdsamp(str(source / "Child_ecg" / "P00/P00002/P00002_E01"))
    assert np.abs(zzu_pecg.ZZUpECG().signal(source, infos[1]).millivolts.T - wanted).max() < 1e-6


def test_the_two_parts_of_zzus_archive_are_told_of(tmp_path: Path) -> None:
    source = zzu_folder(tmp_path / "zzu")
    (source / "Child_ecg").rename(tmp_path / "away")
    (source / "Child_ecg.zip").write_bytes(b"PK")
    dataset = zzu_pecg.ZZUpECG()
    assert len(list(dataset.infos(source))) == 3
    assert "7z x Child_ecg.zip unpacks both" in dataset.remarks[0]


@pytest.mark.parametrize("module", [sph, zzu_pecg])
def test_they_conform(module: object, tmp_path: Path) -> None:
    source = sph_folder(tmp_path / "x") if module is sph else zzu_folder(tmp_path / "x")
    verdicts = check_component("dataset", module.melp_datasets()[0], source=source)  # type: ignore[attr-defined]
    assert [v for v in verdicts if v.ok is False] == []


def test_what_is_wrong_with_a_table_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no metadata\.csv in "):
        list(sph.SPH().infos(tmp_path))
    source = sph_folder(tmp_path / "sph")
    table = source / "metadata.csv"
    table.write_text(table.read_text().replace("A00003,", "../A00003,"))
    with pytest.raises(UserError, match=r"metadata\.csv line 4: ECG_ID is '\.\./A00003'; wanted a name"):
        list(sph.SPH().infos(source))
    zzu = zzu_folder(tmp_path / "zzu")
    (zzu / "DiseaseCode.csv").unlink()
    with pytest.raises(UserError, match=r"DiseaseCode\.csv"):
        list(zzu_pecg.ZZUpECG().infos(zzu))


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda path: path.unlink(), "missing-file"),
        (lambda path: path.write_bytes(path.read_bytes()[:600]), "unreadable-samples"),
        (lambda path: _rewritten(path, np.zeros((11, 5000), np.float16)), "wrong-shape"),
        (lambda path: _rewritten(path, np.full((12, 5000), b"x")), "wrong-shape"),
    ],
)
def test_a_file_of_sph_that_cannot_be_used_is_quarantined(spoil: object, code: str, tmp_path: Path) -> None:
    source = sph_folder(tmp_path / "sph")
    spoil(source / "records" / "A00002.h5")  # type: ignore[operator]
    store = prepare(sph.SPH(), name="sph", source=source, root=tmp_path / "store")
    assert store.manifest.quarantined == {code: 1}


def _rewritten(path: Path, content: object) -> None:
    with h5py.File(path, "w") as file:
        file["ecg"] = content


def test_the_aha_table_has_the_44_statements_of_11_categories_each_in_one_class() -> None:
    """Liu et al. count 44 primary statements; the categories B, G and N occur in no record."""
    table = aha.primary_statements()
    assert len(table) == 44
    assert {s.category for s in table.values()} == set("ACDEFHIJKLM")
    tasks = aha.aha_tasks()
    assert len(tasks["all"].classes) == 44
    assert len(tasks["category"].classes) == 11
    assert sorted(code for members in tasks["category"].members.values() for code in members) == sorted(table)
