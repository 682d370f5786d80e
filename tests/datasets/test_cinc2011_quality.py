"""The CinC Challenge 2011: grades by list and by index, equal records together, and leads under each other's names."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

import melp_bench as mb
from melp_bench.plugins import discover
from melp_bench.testing import check_component

REAL = os.environ.get("MELP_BENCH_MORE_ECG")
needs_records = pytest.mark.skipif(not REAL, reason="set MELP_BENCH_MORE_ECG to the folder with cinc2011-set-a/")
NAMES = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


def write_record(folder: Path, record: str, names: tuple[str, ...], last: str = "") -> np.ndarray:
    """Write a record whose limb leads fit together in the order of `NAMES`, and return its samples (T, L)."""
    generator = np.random.default_rng(0)
    first, second = (np.cumsum(generator.integers(-9, 10, 1000)) * 2 for _ in range(2))
    limbs = [first, second, second - first, -(first + second) // 2, first - second // 2, second - first // 2]
    samples = np.stack([*limbs, *generator.integers(-100, 100, (6, 1000))], axis=1).astype("<i2")
    (folder / f"{record}.dat").write_bytes(samples.tobytes())
    sums = samples.astype(np.int64).sum(axis=0)
    lines = [
        f"{record}.dat 16 200(0)/mV 16 0 {samples[0, k]} {(int(sums[k]) + 32768) % 65536 - 32768} 0 {n}"
        for k, n in enumerate(names)
    ]
    (folder / f"{record}.hea").write_text("\n".join([f"{record} 12 500 1000", *lines, *([f"# {last}"] if last else [])]) + "\n")
    return samples


@pytest.fixture
def set_a(tmp_path: Path) -> Path:
    folder = tmp_path / "set-a"
    folder.mkdir()
    write_record(folder, "1000001", NAMES, "Age: 61 Sex: F")
    write_record(folder, "1000002", NAMES, "Age: 0 Sex: M")
    (folder / "RECORDS-acceptable").write_text("1000002\n")
    (folder / "RECORDS-unacceptable").write_text("1000001\n")
    return tmp_path


def test_two_lists_tell_the_grades_and_headers_the_ages(set_a: Path) -> None:
    dataset = discover().datasets["cinc2011"].build()
    one, two = dataset.infos(set_a)
    assert (one.record_id, one.statements, one.age, one.sex) == ("1000001", {"quality: unacceptable"}, 61.0, "F")
    assert (two.statements, two.age, two.sex, two.path) == ({"quality: acceptable"}, None, "M", "set-a/1000002")
    members = dataset.tasks["quality"].members
    assert [name for name, any_of in members.items() if any_of & one.statements] == ["UNACCEPTABLE"]
    assert list(dataset.files(set_a, two)) == ["set-a/1000002.hea", "set-a/1000002.dat"]


def test_it_keeps_the_promises_of_a_dataset(set_a: Path) -> None:
    entry = discover().datasets["cinc2011"]
    broken = [verdict for verdict in check_component("dataset", entry, source=set_a) if verdict.ok is False]
    assert broken == []


def test_a_list_that_is_missing_or_says_both_is_refused(set_a: Path) -> None:
    dataset = discover().datasets["cinc2011"].build()
    for content, told in (("1000002\n", "once in both lists"), ("../passwd\n", "wanted the number")):
        (set_a / "set-a" / "RECORDS-unacceptable").write_text(content)
        with pytest.raises(mb.UserError, match=told):
            list(dataset.infos(set_a))
    (set_a / "set-a" / "RECORDS-unacceptable").unlink()
    with pytest.raises(mb.UserError, match="no RECORDS-unacceptable"):
        list(dataset.infos(set_a))


def test_augmented_leads_under_each_others_names_are_read_by_what_they_show(set_a: Path) -> None:
    dataset = discover().datasets["cinc2011"].build()
    (info, _) = dataset.infos(set_a)
    right = dataset.signal(set_a, info)
    assert right.repairs == ()
    exchanged = (*NAMES[:4], "aVF", "aVL", *NAMES[6:])
    write_record(set_a / "set-a", info.record_id, exchanged)
    mended = dataset.signal(set_a, info)
    assert mended.repairs == ("exchanged-lead-names",)
    assert mended.leads == NAMES
    np.testing.assert_array_equal(mended.millivolts, right.millivolts)


def test_equal_records_of_an_index_are_one_patient_and_other_grades_refused(tmp_path: Path) -> None:
    dataset = discover().datasets["cinc2011-sample"].build()
    head = "record,quality,signal,duplicate_of\n"
    (tmp_path / "index.csv").write_text(f"{head}1,unacceptable,r/1,\n2,unacceptable,r/2,1\n3,,r/3,\n")
    one, two, three = dataset.infos(tmp_path)
    assert one.patient_id == two.patient_id == "1"
    assert (three.patient_id, three.statements) == ("3", frozenset())
    (tmp_path / "index.csv").write_text(f"{head}1,good,r/1,\n")
    with pytest.raises(mb.UserError, match="line 2: quality is 'good'"):
        list(dataset.infos(tmp_path))


@needs_records
def test_the_sample_has_the_grades_that_its_source_counts_and_leads_that_fit() -> None:
    dataset, source = discover().datasets["cinc2011-sample"].build(), Path(str(REAL)) / "cinc2011-set-a"
    infos = list(dataset.infos(source))
    grades = [next(iter(info.statements), "") for info in infos]
    assert [grades.count(f"quality: {g}") for g in ("acceptable", "unacceptable")] == [773, 225]
    assert len({info.patient_id for info in infos}) == 941
    with (source / "index.csv").open(newline="") as file:
        whole = [row["record"] for row in csv.DictReader(file) if row["flat_leads"] == "0"][:60]
    some = [info for info in infos if info.record_id in whole]
    signals = [dataset.signal(source, info) for info in some]
    assert np.mean([signal.repairs == ("exchanged-lead-names",) for signal in signals]) > 0.9
