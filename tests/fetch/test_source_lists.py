"""What a source lists is read strictly, and a name in it leads nowhere but into the folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from server import Site, serve, with_sums
from test_fetch import FILES, QUICK, content, download

import melp_bench as mb
from melp_bench.fetch import fetch


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(Site(with_sums(FILES))) as served:
        yield served


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"<html>log in</html>", "line 1 of SHA256SUMS.txt is"),
        (b"0" * 64 + b" a.dat\n" + b"1" * 63 + b" b.dat\n", "line 2 of SHA256SUMS.txt is"),
        (b"0" * 64 + b" \xff\xfe.dat\n", "wanted a SHA-256 and a name"),
        (b"\n", "names no file of this dataset"),
    ],
)
def test_what_is_no_list_is_told_and_nothing_is_fetched(body: bytes, told: str, tmp_path: Path) -> None:
    with serve(Site({"SHA256SUMS.txt": body})) as site, pytest.raises(mb.UserError, match=told):
        fetch(download(site), tmp_path, patience=QUICK)
    assert content(tmp_path) == {}


def test_a_missing_list_is_told(tmp_path: Path) -> None:
    with (
        serve(Site({})) as site,
        pytest.raises(mb.UserError, match=r"cannot get the list of files http.*: the server answers 404"),
    ):
        fetch(download(site), tmp_path, patience=QUICK)


def test_a_list_that_is_cut_off_is_never_taken_for_whole(site: Site, tmp_path: Path) -> None:
    site.faults["SHA256SUMS.txt"] = [("cut", 300)]
    fetch(download(site), tmp_path, patience=QUICK)
    assert content(tmp_path) == FILES
    assert (tmp_path / "SHA256SUMS.txt").read_bytes() == site.files["SHA256SUMS.txt"]


def test_lists_as_sha256sum_writes_them_are_read(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    listed = f"{digest}  ./a b.dat\r\n{digest.upper()} *c+%2e#?.dat\n{digest} a b.dat\n"
    with serve(Site({"SHA256SUMS.txt": listed.encode(), "a b.dat": b"x", "c+%2e#?.dat": b"x"})) as site:
        assert fetch(download(site), tmp_path, patience=QUICK).failed == ()
    assert content(tmp_path) == {"a b.dat": b"x", "c+%2e#?.dat": b"x"}


def test_a_file_that_the_list_lacks_is_neither_fetched_nor_touched(site: Site, tmp_path: Path) -> None:
    site.files["unlisted.dat"] = b"theirs"
    (tmp_path / "table.old.csv").write_bytes(b"mine")
    assert fetch(download(site), tmp_path, patience=QUICK).failed == ()
    assert "unlisted.dat" not in {path for path, _ in site.asked}
    assert content(tmp_path) == {**FILES, "table.old.csv": b"mine"}


def test_two_files_of_the_same_content_are_two_files(tmp_path: Path) -> None:
    files = {f"{n}.dat": b"same" * 5_000 for n in range(20)}
    with serve(Site(with_sums(files))) as site:
        assert fetch(download(site), tmp_path, patience=QUICK).fetched == 20
    assert content(tmp_path) == files


@pytest.mark.parametrize(
    "name",
    [
        "../outside.dat",
        "a/../../outside.dat",
        "/{folder}/outside.dat",
        "a//b.dat",
        "a/./b.dat",
        "a/",
        "..",
        "a\\..\\b.dat",
        "\x1b[2Jb.dat",
        "a\x00b.dat",
        "x" * 256,
        "/".join("x" * 100),
        ".melp-bench-fetch/verified",
        "SHA256SUMS.txt",
    ],
)
def test_a_name_that_leads_elsewhere_is_refused_and_never_asked_for(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "in" / "data"
    name = name.replace("{folder}", str(tmp_path).lstrip("/"))
    digest = hashlib.sha256(b"evil").hexdigest()
    with serve(Site(with_sums({"good.dat": b"good"}, f"{digest} {name}\n"))) as site:
        outcome = fetch(download(site), folder, patience=QUICK)
        assert {path for path, _ in site.asked} == {"SHA256SUMS.txt", "good.dat"}
    (failed,) = outcome.failed
    assert failed.startswith(f"{name!r}: refused: ")
    assert content(folder) == {"good.dat": b"good"}
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(folder)] == []


def test_links_out_of_the_folder_are_not_followed(site: Site, tmp_path: Path) -> None:
    folder, outside = tmp_path / "data", tmp_path / "outside"
    outside.mkdir()
    folder.mkdir()
    (outside / "mine.csv").write_bytes(b"mine")
    (folder / "records100").symlink_to(outside)
    (folder / "table.csv").symlink_to(outside / "mine.csv")
    outcome = fetch(download(site), folder, patience=QUICK)
    assert len(outcome.failed) == 7
    assert all("a link on its way leads out of the folder" in failed for failed in outcome.failed)
    assert content(outside) == {"mine.csv": b"mine"}


def test_a_folder_in_the_place_of_a_file_is_told(site: Site, tmp_path: Path) -> None:
    (tmp_path / "table.csv").mkdir()
    (failed,) = fetch(download(site), tmp_path, patience=QUICK).failed
    assert failed == "'table.csv': refused: a folder of its name is in its place"
