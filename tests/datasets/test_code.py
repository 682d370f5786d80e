"""CODE and SaMi-Trop from HDF5 files made in their form: unit, lead order and padding are found, not assumed."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from melp_bench.components import BadRecord
from melp_bench.errors import UserError
from melp_bench.signal import LEADS
from melp_bench.store import prepare
from melp_bench.testing import check_component
from melp_plugins.datasets.code import CLASSES, CODE15, CODETest, melp_datasets
from melp_plugins.datasets.hdf5_tracings import ORDERS, UNITS, read_tracing, stripped
from melp_plugins.datasets.sami_trop import SaMiTrop
from melp_plugins.datasets.synthetic import Synthetic

REAL = os.environ.get("MELP_BENCH_REAL_ECG")
SAMPLES = 2800
EXAMS = [1169160, 2873686, 168405, 271011, 384368, 99]


def hearts(count: int = 6) -> NDArray[np.float32]:
    """Return made records in millivolts, (N, 12, 2800)."""
    made = Synthetic(num_records=count)
    return np.stack([made.signal(Path(), info).millivolts[:, :SAMPLES] for info in made.infos(Path())])


def tracings(path: Path, *, unit: str = "mV", order: int = 0, ids: bool = True) -> Path:
    """Write made records as CODE does: padded at both ends, last row empty."""
    rows = [LEADS.index(lead) for lead in ORDERS[order]]
    padded = np.zeros((len(EXAMS), 4096, 12), dtype=np.float32)
    padded[:, 648 : 648 + SAMPLES] = (hearts()[:, rows] / UNITS[unit]).transpose(0, 2, 1)
    with h5py.File(path, "w") as file:
        file["tracings"] = padded
        if ids:
            file["exam_id"] = np.array(EXAMS[::-1])
    return path


def exams(folder: Path) -> Path:
    """Write the table of CODE-15 for the rows of `tracings`."""
    with (folder / "exams.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["exam_id", "age", "is_male", "patient_id", "trace_file", "death", *CLASSES])
        for number, exam in enumerate(EXAMS):
            row = [exam, 30 + number, number % 2 == 0, 7 + number // 2, "exams_part0.hdf5", ""]
            writer.writerow([*row, *(str(number == place) for place in range(6))])
    return folder


@pytest.mark.parametrize("order", range(len(ORDERS)))
@pytest.mark.parametrize("unit", UNITS)
def test_unit_and_lead_order_are_found(unit: str, order: int, tmp_path: Path) -> None:
    signal = read_tracing(tracings(tmp_path / "x.hdf5", unit=unit, order=order), 2)
    at = [signal.leads.index(lead) for lead in LEADS]
    assert np.allclose(signal.millivolts[at], hearts()[2], atol=1e-5)
    assert signal.rate_hz == 400


def test_padding_goes_and_zeros_inside_stay() -> None:
    x = np.zeros((10, 12), dtype=np.float32)
    x[3, 5], x[7, 0] = 1, 2
    assert stripped(x).shape == (5, 12)
    assert len(stripped(np.zeros((10, 12), dtype=np.float32))) == 0


def test_a_row_is_found_by_its_exam_and_not_by_its_position(tmp_path: Path) -> None:
    tracings(tmp_path / "exams_part0.hdf5")
    store = prepare(CODE15(), name="code-15", source=exams(tmp_path), root=tmp_path / "store")
    hearts_of = dict(zip(EXAMS[::-1], hearts(), strict=True))
    for position, record in enumerate(store.record_ids):
        assert np.abs(store.signal(position).millivolts - hearts_of[int(record)]).max() < 1e-3
    first = store.record_ids.tolist().index(str(EXAMS[0]))
    assert store.labels("all")[first].tolist() == [True, False, False, False, False, False]
    assert (store.ages[first], store.sexes[first], store.patient_ids[first]) == (30, "M", "7")


@pytest.mark.skipif(not REAL, reason="set MELP_BENCH_REAL_ECG to the folder with code-15/")
def test_code_15_conforms_in_its_real_packagings() -> None:
    verdicts = check_component("dataset", melp_datasets()[0], source=Path(REAL or "") / "code-15")
    assert [v for v in verdicts if v.ok is False] == []


def test_code_15_conforms(tmp_path: Path) -> None:
    tracings(tmp_path / "exams_part0.hdf5")
    verdicts = check_component("dataset", melp_datasets()[0], source=exams(tmp_path))
    assert [v for v in verdicts if v.ok is False] == []
    (labels,) = (v for v in verdicts if v.property == "statements become labels")
    assert "chagas: 0 of 2 classes occur" in labels.detail  # the release has no Chagas label


def test_exams_whose_part_is_not_here_are_quarantined(tmp_path: Path) -> None:
    tracings(tmp_path / "exams_part0.hdf5")
    table = exams(tmp_path) / "exams.csv"
    lines = table.read_text().splitlines()
    lines[1] = lines[1].replace("part0", "part7")
    lines[2] = lines[2].replace(str(EXAMS[1]), "5")
    lines[3] = lines[3].replace("exams_part0.hdf5", "../exams_part0.hdf5")
    table.write_text("\n".join(lines))
    store = prepare(CODE15(), name="code-15", source=tmp_path, root=tmp_path / "store")
    assert store.manifest.quarantined == {"missing-file": 1, "missing-samples": 1, "unsafe-path": 1}


def gold(folder: Path, rows: int = 6) -> Path:
    (folder / "annotations").mkdir()
    marks = [",".join(str(int(n == place)) for place in range(6)) for n in range(rows)]
    (folder / "annotations" / "gold_standard.csv").write_text("\n".join([",".join(CLASSES), *marks]))
    (folder / "attributes.csv").write_text("\n".join(["age,sex", *[f"{40 + n},{'FM'[n % 2]}" for n in range(rows)]]))
    return folder


def test_code_test_reads_tracings_labels_and_people_row_by_row(tmp_path: Path) -> None:
    tracings(tmp_path / "ecg_tracings.hdf5", unit="1e-4V", order=1, ids=False)
    store = prepare(CODETest(), name="code-test", source=gold(tmp_path), root=tmp_path / "store")
    assert np.array_equal(store.labels("all"), np.eye(6, dtype=bool))
    assert store.ages.tolist() == [40, 41, 42, 43, 44, 45]
    assert store.leads[0] == ORDERS[1]
    assert set(store.quality_flags) == {()}
    assert [v for v in check_component("dataset", melp_datasets()[1], source=tmp_path) if v.ok is False] == []


def test_tables_of_another_length_than_the_tracings_are_refused(tmp_path: Path) -> None:
    tracings(tmp_path / "ecg_tracings.hdf5", ids=False)
    with pytest.raises(UserError, match=r"has 5 rows, 'ecg_tracings.hdf5' 6"):
        list(CODETest().infos(gold(tmp_path, 5)))


@pytest.mark.skipif(not REAL, reason="set MELP_BENCH_REAL_ECG to the folder with code-test-labels-only/")
def test_labels_without_tracings_are_told(tmp_path: Path) -> None:
    source = Path(REAL or "") / "code-test-labels-only"
    infos = list(CODETest().infos(source))
    assert len(infos) == CODETest.num_records
    with pytest.raises(UserError, match="missing-file 827"):
        prepare(CODETest(), name="code-test", source=source, root=tmp_path / "store")


def test_exams_of_another_source_of_the_challenge_are_not_taken(tmp_path: Path) -> None:
    for name, said in (("1", "# Source: CODE-15%\n"), ("2", "# Source: SaMi-Trop\n"), ("3", "")):
        (tmp_path / f"{name}.hea").write_text(f"{name} 12 400 4096\n# Chagas label: True\n{said}")
    assert [info.record_id for info in CODE15().infos(tmp_path)] == ["1", "3"]
    assert [info.record_id for info in SaMiTrop().infos(tmp_path)] == ["2", "3"]


def test_sami_trop_reads_table_and_tracings(tmp_path: Path) -> None:
    exams(tmp_path)
    tracings(tmp_path / "exams.hdf5", ids=False)
    store = prepare(SaMiTrop(), name="sami-trop", source=tmp_path, root=tmp_path / "store")
    assert store.labels("chagas").tolist() == [[True, False]] * 6
    assert np.abs(store.signal(4).millivolts - hearts()[4]).max() < 1e-3


def test_a_file_that_reaches_out_of_itself_is_refused(tmp_path: Path) -> None:
    tracings(tmp_path / "other.hdf5")
    with h5py.File(tmp_path / "soft.hdf5", "w") as file:
        file["tracings"] = h5py.ExternalLink("other.hdf5", "tracings")
    with h5py.File(tmp_path / "external.hdf5", "w") as file:
        file.create_dataset("tracings", (1, 4096, 12), dtype="f4", external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])
    for name in ("soft", "external"):
        with pytest.raises(BadRecord, match="unsafe-path"):
            read_tracing(tmp_path / f"{name}.hdf5", 0)


@pytest.mark.parametrize("content", [b"", b"noise", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_a_broken_file_is_a_bad_record(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.hdf5").write_bytes(content)
    with pytest.raises(BadRecord, match="unreadable-samples"):
        read_tracing(tmp_path / "x.hdf5", 0)


def test_an_unknown_unit_is_told() -> None:
    with pytest.raises(UserError, match="no unit 'mm'; wanted auto, V, mV"):
        CODE15(unit="mm")


def test_an_exam_that_is_in_a_file_twice_is_neither_of_its_rows(tmp_path: Path) -> None:
    """The last row was read as the exam."""
    file = tracings(tmp_path / "exams_part0.hdf5")
    with h5py.File(file, "r+") as opened:
        opened["exam_id"][1] = EXAMS[-1]
    store = prepare(CODE15(), name="code-15", source=exams(tmp_path), root=tmp_path / "store")
    assert store.manifest.quarantined == {"duplicate-exam": 1, "missing-samples": 1}
    assert str(EXAMS[-1]) not in store.record_ids.tolist()


def test_an_exam_of_which_a_table_says_two_things_is_quarantined(tmp_path: Path) -> None:
    tracings(tmp_path / "exams_part0.hdf5")
    table = exams(tmp_path) / "exams.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, lines[1], lines[2].replace(f"{EXAMS[1]},31", f"{EXAMS[1]},77")]))
    store = prepare(CODE15(), name="code-15", source=tmp_path, root=tmp_path / "store")
    assert store.manifest.quarantined == {"duplicate-exam": 1}
    assert str(EXAMS[1]) not in store.record_ids.tolist()


def test_a_sex_that_is_not_stated_is_no_woman(tmp_path: Path) -> None:
    """A cell without a statement was read as not male."""
    table = exams(tmp_path) / "exams.csv"
    table.write_text(table.read_text().replace("30,True", "30,").replace("31,False", "31,NaN"))
    for dataset in (CODE15(), SaMiTrop()):
        assert {info.record_id: info.sex for info in dataset.infos(tmp_path)}[str(EXAMS[0])] is None
        assert {info.record_id: info.sex for info in dataset.infos(tmp_path)}[str(EXAMS[1])] is None
