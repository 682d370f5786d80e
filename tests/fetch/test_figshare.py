"""Figshare's articles and collections: files at addresses of their own, MD5s, and tar archives."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from server import Site, serve, with_article
from test_fetch import QUICK, content

import melp_bench as mb
from melp_bench.fetch import fetch


def tarred(members: dict[str, bytes], *, link: str = "", mode: str = "w") -> bytes:
    """Return a tar of the members, and of a link out of the folder."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as archive:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "../../outside"
            archive.addfile(info)
    return made.getvalue()


TABLE = {"metadata.csv": b"ECG_ID\nA00001\n", "code.csv": b"Code\n1\n"}
RECORDS = {"records/A00001.h5": b"one" * 1000, "records/A00002.h5": b"two" * 1000}


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(Site({})) as served:
        yield served


def collection(site: Site) -> mb.Download:
    """Serve a collection of two articles, the second of which is a plain tar with the name of a compressed one."""
    site.files = with_article(TABLE, site.url, 7) | with_article({"records.tar.gz": tarred(RECORDS)}, site.url, 8)
    site.files["v2/collections/5/articles?page_size=100"] = json.dumps([{"id": 7}, {"id": 8}]).encode()
    url = f"{site.url}v2/collections/5/articles?page_size=100"
    return mb.Download(url, listing="figshare", always=("metadata.csv",), unpack=True)


def test_an_articles_files_come_from_their_own_addresses(site: Site, tmp_path: Path) -> None:
    site.files = with_article(TABLE, site.url)
    article = mb.Download(f"{site.url}v2/articles/7", listing="figshare")
    assert fetch(article, tmp_path, patience=QUICK).failed == ()
    assert content(tmp_path) == TABLE
    assert {path for path, _ in site.asked} == {"v2/articles/7", "files/7000", "files/7001"}
    site.asked.clear()
    assert fetch(article, tmp_path, patience=QUICK).kept == 2
    assert site.asked == []


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_collections_articles_are_one_list_and_its_tar_is_unpacked(mode: str, site: Site, tmp_path: Path) -> None:
    wanted = collection(site)
    site.files |= with_article({"records.tar.gz": tarred(RECORDS, mode=mode)}, site.url, 8)
    assert fetch(wanted, tmp_path, patience=QUICK).failed == ()
    assert content(tmp_path) == TABLE | RECORDS
    site.asked.clear()
    assert fetch(wanted, tmp_path, patience=QUICK).kept == 3
    assert site.asked == []


def test_a_fetch_that_ends_among_the_articles_asks_for_the_collection_again(site: Site, tmp_path: Path) -> None:
    """The list of articles alone is no list of files."""
    wanted = collection(site)
    site.faults["v2/articles/8"] = [404]
    with pytest.raises(mb.UserError, match=r"cannot get the list of files .*/v2/articles/8: the server answers 404"):
        fetch(wanted, tmp_path, patience=QUICK)
    assert content(tmp_path) == {}
    assert fetch(wanted, tmp_path, patience=QUICK).failed == ()
    assert content(tmp_path) == TABLE | RECORDS


def test_a_corrupt_file_of_an_article_never_gets_its_name(site: Site, tmp_path: Path) -> None:
    site.files = with_article(TABLE, site.url)
    site.faults["files/7000"] = [("corrupt",)] * 9
    (failed,) = fetch(mb.Download(f"{site.url}v2/articles/7", listing="figshare"), tmp_path, patience=QUICK).failed
    assert failed.startswith("'metadata.csv': its MD5 is ")
    assert set(content(tmp_path)) == {"code.csv"}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"{}", "no figshare article"),
        (b"[]", "no figshare article"),
        (b'{"files": [{"name": "a", "size": 1, "download_url": "https://x/"}]}', "states the MD5 ''"),
        (b'{"files": [{"name": "a", "size": 1, "computed_md5": "' + b"0" * 32 + b'", "download_url": "file:///etc/passwd"}]}',
         "the address 'file:///etc/passwd'"),
    ],
)  # fmt: skip
def test_what_is_no_article_is_told(body: bytes, told: str, site: Site, tmp_path: Path) -> None:
    site.files["v2/articles/7"] = body
    with pytest.raises(mb.UserError, match=told):
        fetch(mb.Download(f"{site.url}v2/articles/7", listing="figshare"), tmp_path, patience=QUICK)


def test_a_mirror_serves_an_articles_files_by_their_names(site: Site, tmp_path: Path) -> None:
    site.files = with_article(TABLE, site.url)
    with serve(Site(dict(TABLE))) as mirror:
        article = mb.Download(f"{site.url}v2/articles/7", listing="figshare")
        assert fetch(article, tmp_path, mirror=mirror.url, patience=QUICK).failed == ()
        assert sorted(path for path, _ in mirror.asked) == sorted(TABLE)
    assert content(tmp_path) == TABLE


@pytest.mark.parametrize(
    ("archive", "told"),
    [
        (tarred({"../outside": b"x"}), "its member '../outside' is refused: its name leads out of the folder"),
        (tarred({"records/a": b"x"}, link="records/b"), "refused: its member 'records/b' is a link"),
        (tarred(RECORDS, mode="w:gz")[:-40], "it cannot be unpacked"),
    ],
)
def test_a_tar_that_leads_elsewhere_or_is_cut_is_named(archive: bytes, told: str, site: Site, tmp_path: Path) -> None:
    site.files = with_article({"records.tar.gz": archive}, site.url)
    folder = tmp_path / "in" / "data"
    article = mb.Download(f"{site.url}v2/articles/7", listing="figshare", unpack=True)
    (failed,) = fetch(article, folder, patience=QUICK).failed
    assert told in failed
    assert [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(folder)] == []
