"""Drift: a source that changed under its store is told record by record."""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
from pathlib import Path

import pytest

from melp_bench.store import Store, Verification, prepare, verify_source
from melp_plugins.datasets.ludb import LUDB

REAL = os.environ.get("MELP_BENCH_REAL_ECG")
pytestmark = pytest.mark.skipif(not REAL, reason="set MELP_BENCH_REAL_ECG to the folder with ludb/")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return twelve records of LUDB with the digests of its publisher; two of its other files are missing, as happens."""
    folder, whole = tmp_path / "ludb", Path(REAL or "") / "ludb"
    (folder / "data").mkdir(parents=True)
    for name in ("ludb.csv", "SHA256SUMS.txt"):
        shutil.copy(whole / name, folder / name)
    for number in range(1, 13):
        for path in (whole / "data").glob(f"{number}.*"):
            shutil.copy(path, folder / "data" / path.name)
    return folder


@pytest.fixture
def store(source: Path, tmp_path: Path) -> Store:
    made = prepare(LUDB(), name="ludb", source=source, root=tmp_path / "store")
    assert (len(made), made.manifest.quarantined) == (12, {"missing-file": 188})
    return made


def again(store: Store, source: Path, sample: int | None = None) -> Verification:
    return verify_source(store, LUDB(), source, sample=sample)


def test_a_source_that_did_not_change_agrees_with_its_publisher(store: Store, source: Path) -> None:
    steps: list[tuple[int, int]] = []
    found = verify_source(store, LUDB(), source, sample=None, progress=lambda done, total: steps.append((done, total)))
    assert found.problems == ()
    assert (found.num_native, found.num_files) == (12, 1 + 12 * 14)  # the table; header, samples and twelve annotations
    assert steps[-1] == (12, 12)


def test_a_sample_is_spread_over_the_store_and_compares_only_its_files(store: Store, source: Path) -> None:
    found = again(store, source, 3)
    assert (found.num_native, found.num_files) == (3, 1 + 3 * 14)


def test_a_flipped_bit_is_told_by_the_list_and_by_the_headers_checksum(store: Store, source: Path) -> None:
    path = source / "data" / "5.dat"
    content = bytearray(path.read_bytes())
    content[1000] ^= 4
    path.write_bytes(content)
    listed, read = again(store, source).problems
    assert listed == "record '5': data/5.dat is not the file that SHA256SUMS.txt lists"
    assert read.startswith("record '5': cannot be read from the source now (checksum-mismatch")


def test_a_file_that_was_mended_on_both_sides_is_still_another_record(store: Store, source: Path) -> None:
    shutil.copy(source / "data" / "7.dat", source / "data" / "6.dat")
    header = (source / "data" / "7.hea").read_text().replace("7.dat", "6.dat")
    (source / "data" / "6.hea").write_text(header)
    digest = hashlib.sha256((source / "data" / "6.dat").read_bytes()).hexdigest()
    sums = (source / "SHA256SUMS.txt").read_text().splitlines()
    mended = [f"{digest} data/6.dat" if line.endswith(" data/6.dat") else line for line in sums]
    (source / "SHA256SUMS.txt").write_text("\n".join(mended) + "\n")
    problems = again(store, source).problems
    assert problems[0] == "record '6': data/6.hea is not the file that SHA256SUMS.txt lists"
    assert "record '6': the source now has other samples, leads or another rate" in problems


def test_a_changed_label_a_lost_and_a_new_record_are_told(store: Store, source: Path) -> None:
    table = source / "ludb.csv"
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    rows[2]["Sex"] = {"F": "M", "M": "F"}[rows[2]["Sex"].strip()]
    rows[3]["ID"] = "900"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    problems = again(store, source).problems
    assert problems[0].startswith("the source lists 1 records that the store does not know, '900' among them")
    assert problems[1:] == (
        "ludb.csv is not the file that SHA256SUMS.txt lists",
        "record '3': the source now states another sex",
        "record '4': the source no longer lists it",
    )


def test_without_a_list_of_digests_records_are_compared_all_the_same(store: Store, source: Path) -> None:
    (source / "SHA256SUMS.txt").unlink()
    (source / "data" / "2.hea").write_text((source / "data" / "2.hea").read_text().replace(" 500 ", " 250 ", 1))
    found = again(store, source)
    assert found.num_files == 0
    assert found.problems == ("record '2': the source now has other samples, leads or another rate",)
