"""The audit: a table counted by hand, the same counts by brute force, the published counts, and what is printed."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from label_csv import PARTS, TEST_ORDER, TRAIN_ORDER, by_name, sub_parts, write, write_csn, write_ptb_xl, write_sub

from melp_bench.cli import _run
from melp_bench.label_files import Audit, audit, layouts, read_files

CLASSES = ["VB", "AVB", "1AVB", "ST", "STE", "AF", "AFIB"]
ROWS = {
    "train": [("JS00001", ["1AVB", "SB"]), ("JS00002", ["VB"]), ("JS00003", ["AFIB"])],
    "val": [("JS00004", ["ST", "STE"]), ("JS00005", ["STTC"])],
    "test": [("JS00006", ["AVB"]), ("JS00007", ["AF", "STE"]), ("JS00008", ["SR"])],
}
BY_HAND = {  # class: true / false positives in train, val, test
    "VB": [(1, 1), (0, 0), (0, 1)],
    "AVB": [(0, 1), (0, 0), (1, 0)],
    "1AVB": [(1, 0), (0, 0), (0, 0)],
    "ST": [(0, 0), (1, 1), (0, 1)],
    "STE": [(0, 0), (1, 0), (1, 0)],
    "AF": [(0, 1), (0, 0), (1, 0)],
    "AFIB": [(1, 0), (0, 0), (0, 0)],
}
REAL = os.environ.get("MELP_BENCH_REAL_ECG")


def csn(folder: Path) -> Audit:
    return audit(read_files(folder, layouts()["csn/published"]))


def sub(folder: Path) -> Audit:
    return audit(read_files(folder, layouts()["ptb-xl/sub"]))


def test_the_audit_of_substring_labels_is_the_table_counted_by_hand(tmp_path: Path) -> None:
    found = csn(write_csn(tmp_path, ROWS, CLASSES))
    counted = {name: [(found.counts[p][name].true, found.counts[p][name].false) for p in PARTS] for name in CLASSES}
    assert counted == BY_HAND
    assert (found.total("VB").true, found.total("VB").false, found.total("VB").missed) == (1, 2, 0)
    assert found.wrong_rows == {"train": 2, "val": 1, "test": 2}
    assert found.within == 6
    assert not found.moved


def test_labels_by_name_have_nothing_wrong_and_a_label_that_is_lacking_is_missed(tmp_path: Path) -> None:
    right = csn(write_csn(tmp_path, ROWS, CLASSES, by_name))
    assert all(counts.false == counts.missed == 0 for part in right.counts.values() for counts in part.values())
    assert sum(right.wrong_rows.values()) == right.within == 0
    none = csn(write_csn(tmp_path, ROWS, CLASSES, lambda name, had: False))
    assert sum(none.total(name).missed for name in CLASSES) == 8  # every statement of ROWS that is a class
    assert sum(none.total(name).true + none.total(name).false for name in CLASSES) == 0


def test_a_false_positive_that_is_no_name_within_a_name_is_told_apart(tmp_path: Path) -> None:
    found = csn(write_csn(tmp_path, {part: [("JS9" + part, ["SR"])] for part in PARTS}, ["VB"], lambda name, had: True))
    assert (found.total("VB").false, found.within) == (3, 0)


def test_the_columns_that_changed_places_are_named(tmp_path: Path) -> None:
    found = sub(write_sub(tmp_path, sub_parts()))
    assert [(m.position, m.names["train"], m.names["val"], m.names["test"]) for m in found.moved] == [
        (1, "AVB", "ISC", "ISC"),
        (2, "RAO/RAE", "AVB", "AVB"),
        (3, "ISC", "RAO/RAE", "RAO/RAE"),
    ]
    assert found.files.misnamed == ("ISC", "AVB", "RAO/RAE")
    assert all(counts.false == counts.missed == 0 for part in found.counts.values() for counts in part.values())
    rows = sub_parts()["test"]
    as_read = {m.names["train"]: m.read["test"] for m in found.moved}
    for name, counts in as_read.items():  # what is called `name` by position is what stands in its column
        stands = TEST_ORDER[TRAIN_ORDER.index(name)]
        assert counts.true == sum(name in had and stands in had for _, had in rows)
        assert counts.false == sum(name not in had and stands in had for _, had in rows)
        assert counts.missed == sum(name in had and stands not in had for _, had in rows)
    assert found.misread_rows["train"] == 0
    wrong = [had for _, had in rows if [c in had for c in TRAIN_ORDER] != [c in had for c in TEST_ORDER]]
    assert found.misread_rows["test"] == len(wrong) > 0


def test_files_of_one_order_have_no_column_that_changed_places(tmp_path: Path) -> None:
    found = sub(write_ptb_xl(tmp_path, "sub_class", sub_parts(), dict.fromkeys(PARTS, TEST_ORDER)))
    assert not found.moved
    assert found.files.misnamed == ()
    assert sum(found.misread_rows.values()) == 0


ACRONYMS = st.lists(
    st.sampled_from(["VB", "AVB", "1AVB", "2AVB1", "ST", "STE", "STTC", "SA", "LVQRSAL", "A", "AF"]), max_size=5
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), classes=ACRONYMS.filter(bool).map(lambda names: sorted(set(names))))
def test_the_audit_counts_what_a_slow_count_of_the_file_counts(tmp_path: Path, data: st.DataObject, classes: list[str]) -> None:
    rows: dict[str, list[tuple[str, list[str]]]] = {}
    marks: dict[tuple[str, str], int] = {}
    for n, part in enumerate(PARTS):
        rows[part] = [(f"JS{n}{i:04d}", had) for i, had in enumerate(data.draw(st.lists(ACRONYMS, min_size=1, max_size=6)))]
        orders = data.draw(st.permutations(classes))
        table = []
        for record, had in rows[part]:
            for name in orders:
                marks[record, name] = data.draw(st.sampled_from([int(name in ",".join(had)), 0, 1]))
            table.append([f"/c/{record}.mat", 12, ",".join(had), *(marks[record, name] for name in orders)])
        write(tmp_path / f"chapman/chapman_{part}.csv", ["ecg_path", "age", "diagnose", *orders], table)
    found = csn(tmp_path)
    within = 0
    for part in PARTS:
        wrong = set()
        for name in classes:
            true = false = missed = 0
            for record, had in rows[part]:
                for _ in range(marks[record, name]):
                    true += name in had
                    false += name not in had
                    if name not in had:
                        wrong.add(record)
                        within += name in ",".join(had)
                if not marks[record, name]:
                    missed += name in had
            counts = found.counts[part][name]
            assert (counts.true, counts.false, counts.missed) == (true, false, missed)
        assert found.wrong_rows[part] == len(wrong)
    assert found.within == within


@pytest.mark.skipif(not REAL, reason="set MELP_BENCH_REAL_ECG to the folder with ptb-xl/labels_all_records/")
def test_ptb_xls_published_files_have_the_digests_and_the_defect_that_are_known(tmp_path: Path) -> None:
    """The rows of the published files are at hand in one table per task, with the columns of the training file."""
    for task in ("super_class", "sub_class", "form", "rhythm"):
        packed = (Path(str(REAL)) / f"ptb-xl/labels_all_records/ptbxl_{task}.csv.gz").read_bytes()
        table = list(csv.DictReader(io.StringIO(gzip.decompress(packed).decode(), newline="")))
        columns = [name for name in table[0] if name != "melp_split"]
        for part in PARTS:
            header = list(columns)
            if task == "sub_class" and part != "train":  # the published test file's order: ISC before AVB
                header.remove("ISC")
                header.insert(header.index("AVB"), "ISC")
            rows = [[row[name] for name in header] for row in table if row["melp_split"] == part]
            write(tmp_path / f"ptbxl/{task}/ptbxl_{task}_{part}.csv", header, rows)
    for layout in layouts().values():
        if layout.dataset == "ptb-xl":
            found = audit(read_files(tmp_path, layout))
            assert {file.verified for file in found.files.parts.values()} == {"published"}
            assert sum(found.wrong_rows.values()) == 0
            assert bool(found.moved) == (layout.name == "ptb-xl/sub")
    found = sub(tmp_path)
    assert [m.names["test"] for m in found.moved] == ["ISC", "AVB", "RAO/RAE"]
    assert [(m.read["test"].true, m.read["test"].false) for m in found.moved] == [(5, 123), (1, 81), (0, 10)]


def test_the_table_that_is_printed_fits_80_columns_and_says_the_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    write_csn(tmp_path, ROWS, CLASSES)
    assert _run(["data", "audit", "csn", "--published-splits", str(tmp_path)], verbose=False) == 0
    told = capsys.readouterr().out
    assert all(len(line) <= 80 for line in told.splitlines())
    cells = {line.split()[0]: line.split()[1:] for line in told.splitlines() if " / " in line}
    assert list(cells)[1:] == ["ST", "VB", "AF", "AVB"]  # below the title: the most false positives first
    assert cells["VB"] == ["1", "/", "2", "1", "/", "1", "0", "/", "0", "0", "/", "1"]
    assert "5 of 8 rows carry a false positive" in told
    assert "6 false positives in 4 classes; 6 are names within other names" in told
    assert "the same order" in told
    write_sub(tmp_path, sub_parts())
    assert _run(["data", "audit", "ptb-xl/sub", "--published-splits", str(tmp_path)], verbose=False) == 0
    told = capsys.readouterr().out
    assert all(len(line) <= 80 for line in told.splitlines())
    assert "every label is what the statements beside it say" in told
    assert "3 of 4 label columns changed places" in told


def test_json_and_csv_hold_the_same_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csn(tmp_path, ROWS, CLASSES)
    out = tmp_path / "counts.csv"
    assert _run(["data", "audit", "csn", "--published-splits", str(tmp_path), "--json", "--out", str(out)], verbose=False) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["rows_with_a_false_positive"] == {"train": 2, "val": 1, "test": 2}
    with out.open(newline="") as file:
        rows = {
            (row["part"], row["class"]): (int(row["true_positives"]), int(row["false_positives"]))
            for row in csv.DictReader(file)
        }
    assert rows == {(p, name): BY_HAND[name][i] for i, p in enumerate(PARTS) for name in CLASSES}
    for (part, name), (true, false) in rows.items():
        assert (told["counts"][part][name]["true"], told["counts"][part][name]["false"]) == (true, false)


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ("cnsn", "did you mean 'csn'"),
        ("ludb", "no label files of 'ludb'"),
        ("csn", "chapman_train.csv"),
        ("ptb-xl/sub", "cannot read"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(
    task: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(["data", "audit", task, "--published-splits", str(tmp_path)], verbose=False) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
