"""`melp-bench data fetch`: the licence first, failures by name, and where to go for what is not served to everyone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from server import Site, serve, with_sums
from test_fetch import FILES, content

import melp_bench as mb
from melp_bench.cli import _run
from melp_bench.plugins import discover
from melp_plugins.datasets.ludb import LUDB

REAL = os.environ.get("MELP_BENCH_REAL_ECG")
DATASETS = {entry.name: entry.build(**entry.resolve({})) for entry in discover().datasets}


def call(*arguments: str | Path) -> int:
    """Run the command line here, and return its exit status."""
    return _run([str(argument) for argument in arguments], verbose=False)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Serve some files as if they were LUDB."""
    with serve(Site(with_sums(FILES))) as served:
        monkeypatch.setattr(LUDB, "download", mb.Download(served.url))
        yield served


def test_licence_and_citation_come_first_and_the_next_command_last(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("data", "fetch", "ludb", "--to", tmp_path / "ludb") == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"ludb {LUDB.version}"
    assert told[1] == f"licence {LUDB.licence}"
    assert told[2] == f"cite    {LUDB.citation}"
    assert told[-1] == f"next    melp-bench data prepare ludb --from {tmp_path / 'ludb'}"
    assert told[-2] == f"fetched 14 files ({sum(map(len, FILES.values())) / 1e6:.1f} MB), 0 were there"
    assert content(tmp_path / "ludb") == FILES
    assert call("data", "fetch", "ludb", "--to", tmp_path / "ludb") == 0
    assert "fetched 0 files (0.0 MB), 14 were there" in capsys.readouterr().out


def test_the_licence_is_told_even_if_nothing_comes(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site.files.clear()
    assert call("data", "fetch", "ludb", "--to", tmp_path) == 2
    told = capsys.readouterr()
    assert f"licence {LUDB.licence}" in told.out
    assert re.fullmatch(
        r"melp-bench: cannot get the list of files http\S+SHA256SUMS.txt: the server answers 404 .*\n", told.err
    )


def test_files_that_cannot_be_had_are_named_with_exit_status_1(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.faults = {name: [404] for name in FILES if name.startswith("records")}
    assert call("data", "fetch", "ludb", "--to", tmp_path) == 1
    told = capsys.readouterr().out.splitlines()
    assert "fetched 2 files (0.0 MB), 0 were there, 12 could not be had" in told
    assert sum(line.startswith("failed   'records") for line in told) == 10
    assert "failed   and 2 more" in told
    assert told[-1] == "what came is kept; the same command tries the rest again"
    assert call("data", "fetch", "ludb", "--to", tmp_path) == 0
    assert content(tmp_path) == FILES


def test_patterns_and_mirrors_are_taken(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serve(Site(dict(FILES))) as mirror:
        assert call("data", "fetch", "ludb", "--to", tmp_path, "--only", "records100", "--mirror", mirror.url) == 0
        assert f"from    {mirror.url}" in capsys.readouterr().out
        assert len(mirror.asked) == 6
    assert set(content(tmp_path)) == {name for name in FILES if name.startswith("records100/")}
    assert call("data", "fetch", "ludb", "--to", tmp_path, "--mirror", "elsewhere") == 2
    assert "--mirror 'elsewhere' is no address" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("dataset", "told"),
    [
        ("synthetic", "'synthetic' is generated, there is nothing to fetch"),
        ("wfdb-folder", "'wfdb-folder' has no address of its own"),
        ("ludbb", "did you mean 'ludb'?"),
    ],
)
def test_what_cannot_be_fetched_is_one_line(
    dataset: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("data", "fetch", dataset, "--to", tmp_path / "x") == 2
    line = capsys.readouterr().err
    assert told in line
    assert line.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_a_set_that_has_to_be_asked_for_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LUDB, "download", None)
    assert call("data", "fetch", "ludb", "--to", tmp_path) == 2
    assert (
        f"{LUDB.homepage} says how to get it (licence: {LUDB.licence}), then: melp-bench data prepare"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("name", [name for name, dataset in DATASETS.items() if dataset.download is not None])
def test_files_come_from_where_the_homepage_is(name: str) -> None:
    """A version or a record number that is renewed in one of the two places only is an error."""
    dataset = DATASETS[name]
    assert dataset.download is not None
    if dataset.download.listing == "zenodo":
        assert dataset.download.url == dataset.homepage.replace("zenodo.org/", "zenodo.org/api/")
        assert dataset.download.unpack
    elif dataset.download.listing == "figshare":
        doi = re.fullmatch(r"https://doi\.org/10\.6084/m9\.figshare\.(c\.)?(\d+)", dataset.homepage)
        assert doi is not None
        place = f"collections/{doi[2]}/articles?page_size=100" if doi[1] else f"articles/{doi[2]}"
        assert dataset.download.url == f"https://api.figshare.com/v2/{place}"
    else:
        assert dataset.download.url == dataset.homepage.replace("physionet.org/content/", "physionet.org/files/")
        assert dataset.homepage.startswith("https://physionet.org/content/")


def test_every_dataset_that_was_measured_and_published_can_be_fetched() -> None:
    """Samples are a choice of records that nobody serves; the datasets that they are of can be fetched."""
    without = {name for name, dataset in DATASETS.items() if dataset.download is None}
    samples = {name for name in without if name.endswith("-sample")}
    assert {name for name in without - samples if DATASETS[name].homepage} == set()
    assert {name.removesuffix("-sample") for name in samples} <= set(DATASETS) - without


@pytest.mark.skipif(not REAL, reason="set MELP_BENCH_REAL_ECG to the folder with ludb/")
def test_real_files_with_their_real_list_become_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """LUDB as PhysioNet lists it; the copy has other line ends in three texts, which is found and told."""
    source = Path(str(REAL)) / "ludb"
    files = {path.relative_to(source).as_posix(): path.read_bytes() for path in source.rglob("*") if path.is_file()}
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "home"))
    folder = tmp_path / "ludb"
    only = ("--only", "data/1?.*", "--only", "ludb.csv", "--only", "README")
    with serve(Site(files)) as site:
        monkeypatch.setattr(LUDB, "download", mb.Download(site.url, always=("ludb.csv",)))
        assert call("data", "fetch", "ludb", "--to", folder, *only) == 1
    told = capsys.readouterr().out
    assert told.count("failed   ") == 1
    assert "failed   'README': its SHA256 is" in told
    assert {name: files[name] for name in content(folder)} == content(folder)
    assert call("data", "prepare", "ludb", "--from", folder, "--workers", "1") == 0
    told = capsys.readouterr().out
    assert f"a fetch into {folder} is not finished" in told.replace("\n", "")
    assert "ludb  10 records, 190 quarantined (missing-file 190)" in told
