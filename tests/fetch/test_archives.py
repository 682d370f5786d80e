"""Zenodo's records: their digests and sizes, and archives that are unpacked into the folder and nowhere else."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from server import Site, serve, with_record
from test_fetch import QUICK, content

import melp_bench as mb
from melp_bench.fetch import fetch, unfinished

RANDOM = np.random.default_rng(1)
TRACINGS = RANDOM.bytes(200_000)


def zipped(members: dict[str, bytes], *, link: str = "") -> bytes:
    """Return an archive of the members, and of a link out of the folder."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = 0o120777 << 16
            archive.writestr(info, "../../outside")
    return made.getvalue()


ARCHIVE = zipped({"exams_part0.hdf5": TRACINGS, "inner/": b"", "inner/table.csv": b"a,b\n"})
FILES = {"exams.csv": b"exam_id\n1\n", "exams_part0.zip": ARCHIVE, "exams_part1.zip": zipped({"exams_part1.hdf5": b"other"})}
UNPACKED = {
    "exams.csv": FILES["exams.csv"],
    "exams_part0.hdf5": TRACINGS,
    "inner/table.csv": b"a,b\n",
    "exams_part1.hdf5": b"other",
}
KEY = "files/exams_part0.zip/content"


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(Site(with_record(FILES))) as served:
        yield served


def record(site: Site) -> mb.Download:
    return mb.Download(site.url, listing="zenodo", unpack=True)


def test_archives_are_unpacked_and_not_kept_and_not_fetched_twice(site: Site, tmp_path: Path) -> None:
    outcome = fetch(record(site), tmp_path, patience=QUICK)
    assert (outcome.fetched, outcome.failed) == (3, ())
    assert content(tmp_path) == UNPACKED
    assert not list((tmp_path / ".melp-bench-fetch").glob("*.zip"))
    site.asked.clear()
    assert fetch(record(site), tmp_path, patience=QUICK).kept == 3
    assert site.asked == []


def test_a_member_that_was_changed_is_unpacked_again(site: Site, tmp_path: Path) -> None:
    fetch(record(site), tmp_path, patience=QUICK)
    (tmp_path / "exams_part0.hdf5").write_bytes(b"spoilt")
    site.asked.clear()
    fetch(record(site), tmp_path, patience=QUICK)
    assert content(tmp_path) == UNPACKED
    assert site.asked == [(KEY, 0)]


def test_archives_stay_packed_where_the_dataset_does_not_ask(site: Site, tmp_path: Path) -> None:
    fetch(mb.Download(site.url, listing="zenodo"), tmp_path, patience=QUICK)
    assert content(tmp_path) == FILES


def test_progress_is_in_megabytes_where_sizes_are_known(tmp_path: Path) -> None:
    files = {"a.bin": RANDOM.bytes(3_000_000), "b.bin": RANDOM.bytes(2_500_000)}
    units: list[str] = []
    seen: list[tuple[int, int]] = []

    def stage(unit: str) -> nullcontext[object]:
        units.append(unit)
        return nullcontext(lambda done, total, note: seen.append((done, total)))

    with serve(Site(with_record(files))) as site:
        fetch(record(site), tmp_path, only=["a.bin"], patience=QUICK, stage=stage)  # type: ignore[arg-type]
        fetch(record(site), tmp_path, patience=QUICK, stage=stage)  # type: ignore[arg-type]
    assert units == ["MB", "MB"]
    assert (0, 3) in seen
    assert (3, 5) in seen
    assert seen[-1] == (5, 5)


def test_a_cut_archive_goes_on_where_it_ended(site: Site, tmp_path: Path) -> None:
    site.faults[KEY] = [("cut", 70_000), ("cut", 70_000)]
    assert fetch(record(site), tmp_path, patience=QUICK).failed == ()
    assert content(tmp_path) == UNPACKED
    assert site.requests_of(KEY) == [0, 70_000, 140_000]


def test_an_archive_that_was_fetched_and_not_unpacked_is_not_fetched_again(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "open", full)
        with pytest.raises(mb.UserError, match="make room there and run the same command again"):
            fetch(record(site), tmp_path, only=["exams_part0.zip"], patience=QUICK)
    assert content(tmp_path) == {}
    site.asked.clear()
    fetch(record(site), tmp_path, patience=QUICK)
    assert content(tmp_path) == UNPACKED
    assert KEY not in {path for path, _ in site.asked}


@pytest.mark.parametrize("name", ["../outside.csv", "/outside.csv", "a/../../outside.csv", ".melp-bench-fetch/verified"])
def test_a_member_that_leads_elsewhere_spoils_its_archive_and_no_more(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "in" / "data"
    files = {"bad.zip": zipped({"good.csv": b"good", name: b"evil"}), "exams.csv": b"exam_id\n"}
    with serve(Site(with_record(files))) as site:
        (failed,) = fetch(record(site), folder, patience=QUICK).failed
    assert failed.startswith("'bad.zip': its member ")
    assert " is refused: " in failed
    assert content(folder) == {"exams.csv": b"exam_id\n"}
    assert list(tmp_path.rglob("outside*")) == []
    assert unfinished(folder) == folder


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    with serve(Site(with_record({"bad.zip": zipped({"a.csv": b"a"}, link="inner")}))) as site:
        (failed,) = fetch(record(site), tmp_path, patience=QUICK).failed
    assert failed == "'bad.zip': refused: its member 'inner' is a link"
    assert content(tmp_path) == {}


def test_what_is_called_an_archive_and_is_none_is_named(tmp_path: Path) -> None:
    with serve(Site(with_record({"bad.zip": b"no archive"}))) as site:
        (failed,) = fetch(record(site), tmp_path, patience=QUICK).failed
    assert failed.startswith("'bad.zip': it cannot be unpacked (File is not a zip file); it lies at ")


def test_an_archive_that_would_fill_the_disk_is_not_begun(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(mb.UserError, match=r"has room for 0\.0 GB, and the archive unpacks to 0\.0 GB"):
        fetch(record(site), tmp_path, only=["exams_part0.zip"], patience=QUICK)
    assert content(tmp_path) == {}


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b'{"message": "The record has been restricted"}',
        json.dumps({"files": [{"key": "a", "size": 1}]}).encode(),
        json.dumps({"files": [{"key": "a", "size": 1, "checksum": "crc32:00000000"}]}).encode(),
        json.dumps({"files": [{"key": "a", "size": "?", "checksum": "md5:" + "0" * 32}]}).encode(),
    ],
)
def test_what_is_no_open_record_is_told(body: bytes, tmp_path: Path) -> None:
    with serve(Site({"": body})) as site, pytest.raises(mb.UserError, match=r"no Zenodo record with files|states the checksum"):
        fetch(record(site), tmp_path, patience=QUICK)
    assert content(tmp_path) == {}
