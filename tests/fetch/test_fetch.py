"""What is fetched is byte for byte what the source lists, whatever servers, connections and names do on the way."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from server import Site, serve, with_sums

import melp_bench as mb
from melp_bench.fetch import Patience, fetch, unfinished

QUICK = Patience(tries=3, wait_s=0.0, connect_s=5.0, silence_s=5.0)
RANDOM = np.random.default_rng(0)
FILES = {
    "table.csv": b"ecg_id,age\n1,56\n",
    "LICENSE.txt": b"",
    **{f"records100/{n:05d}.dat": RANDOM.bytes(3_000 + n) for n in range(6)},
    **{f"records500/{n:05d}.dat": RANDOM.bytes(90_000 + n) for n in range(6)},
}
BIG = "records500/00003.dat"


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(Site(with_sums(FILES))) as served:
        yield served


def download(site: Site, **options: object) -> mb.Download:
    return mb.Download(site.url, **options)  # type: ignore[arg-type]


def content(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder without the fetch's own."""
    found = (path for path in folder.rglob("*") if path.is_file() and ".melp-bench-fetch" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found if path.name != "SHA256SUMS.txt"}


def test_all_files_come_and_a_second_call_asks_for_nothing(site: Site, tmp_path: Path) -> None:
    outcome = fetch(download(site), tmp_path / "data", patience=QUICK)
    assert content(tmp_path / "data") == FILES
    assert (outcome.fetched, outcome.kept, outcome.failed) == (len(FILES), 0, ())
    assert outcome.num_bytes == sum(map(len, FILES.values()))
    assert not list((tmp_path / "data" / ".melp-bench-fetch").glob("*.part"))
    site.asked.clear()
    again = fetch(download(site), tmp_path / "data", patience=QUICK)
    assert (again.fetched, again.kept) == (0, len(FILES))
    assert site.asked == []


def test_files_that_lie_there_already_are_read_and_not_fetched(site: Site, tmp_path: Path) -> None:
    for name, body in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(body)
    outcome = fetch(download(site), tmp_path, patience=QUICK)
    assert (outcome.fetched, outcome.kept) == (0, len(FILES))
    assert {path for path, _ in site.asked} == {"SHA256SUMS.txt"}


def test_a_file_that_was_changed_or_lost_is_fetched_again_and_told(site: Site, tmp_path: Path) -> None:
    fetch(download(site), tmp_path, patience=QUICK)
    (tmp_path / "table.csv").write_bytes(b"ecg_id,age\n1,57\n")
    (tmp_path / BIG).unlink()
    (tmp_path / "notes.txt").write_text("mine")
    site.asked.clear()
    outcome = fetch(download(site), tmp_path, patience=QUICK)
    assert sorted(path for path, _ in site.asked) == [BIG, "table.csv"]
    assert content(tmp_path) == {**FILES, "notes.txt": b"mine"}
    assert outcome.fetched == 2
    (replaced,) = outcome.replaced
    assert replaced.startswith("'table.csv': its SHA256 is")


def test_cut_connections_go_on_where_they_ended(site: Site, tmp_path: Path) -> None:
    site.faults[BIG] = [("cut", 20_000), ("cut", 0), ("cut", 30_000), ("cut", 1)]
    outcome = fetch(download(site), tmp_path, patience=QUICK)
    assert outcome.failed == ()
    assert content(tmp_path) == FILES
    assert site.requests_of(BIG) == [0, 20_000, 20_000, 50_000, 50_001]
    assert site.sent[BIG] == len(FILES[BIG])


def test_a_server_without_ranges_starts_the_file_again(site: Site, tmp_path: Path) -> None:
    site.ranges = False
    site.faults[BIG] = [("cut", 20_000), ("cut", 50_000)]
    assert fetch(download(site), tmp_path, patience=QUICK).failed == ()
    assert content(tmp_path) == FILES
    assert site.sent[BIG] == 70_000 + len(FILES[BIG])


def test_a_server_that_always_cuts_at_the_same_byte_is_given_up(site: Site, tmp_path: Path) -> None:
    site.ranges = False
    site.faults[BIG] = [("cut", 20_000)] * 50
    outcome = fetch(download(site), tmp_path, patience=QUICK)
    assert outcome.failed == (f"{BIG!r}: the connection was cut, 3 times without a new byte",)
    assert len(site.requests_of(BIG)) == 4
    assert content(tmp_path) == {name: body for name, body in FILES.items() if name != BIG}


def test_another_range_than_asked_for_is_not_taken(site: Site, tmp_path: Path) -> None:
    site.faults[BIG] = [("cut", 20_000), ("shift",)]
    assert fetch(download(site), tmp_path, patience=QUICK).failed == ()
    assert content(tmp_path) == FILES


def test_a_corrupt_file_is_fetched_again(site: Site, tmp_path: Path) -> None:
    site.faults[BIG] = [("corrupt",), ("cut", 10), ("corrupt",)]
    assert fetch(download(site), tmp_path, patience=QUICK).failed == ()
    assert content(tmp_path) == FILES


def test_a_file_that_stays_corrupt_is_named_and_never_gets_its_name(site: Site, tmp_path: Path) -> None:
    site.faults[BIG] = [("corrupt",)] * 9
    outcome = fetch(download(site), tmp_path, patience=QUICK)
    (failed,) = outcome.failed
    assert failed.startswith(f"{BIG!r}: its SHA256 is ")
    assert failed.endswith(", fetched 3 times")
    assert len(site.requests_of(BIG)) == 3
    assert content(tmp_path) == {name: body for name, body in FILES.items() if name != BIG}
    assert unfinished(tmp_path) == tmp_path
    site.faults.clear()
    site.asked.clear()
    assert fetch(download(site), tmp_path, patience=QUICK).fetched == 1
    assert site.asked == [(BIG, 0)]
    assert unfinished(tmp_path) is None


def test_a_beginning_of_something_else_costs_one_more_request(site: Site, tmp_path: Path) -> None:
    site.faults[BIG] = [("cut", 20_000), 404]
    assert len(fetch(download(site), tmp_path, patience=QUICK).failed) == 1
    (part,) = (tmp_path / ".melp-bench-fetch").glob("*.part")
    part.write_bytes(b"x" * 20_000)
    assert fetch(download(site), tmp_path, patience=QUICK).failed == ()
    assert content(tmp_path) == FILES
    assert site.requests_of(BIG)[-2:] == [20_000, 0]


def test_a_beginning_that_is_whole_or_too_long_is_recognised(site: Site, tmp_path: Path) -> None:
    for kept, starts in ((FILES[BIG], [len(FILES[BIG])]), (FILES[BIG] + b"more", [len(FILES[BIG]) + 4, 0])):
        folder = tmp_path / str(len(kept))
        site.faults[BIG] = [("cut", 1), 404]
        fetch(download(site), folder, patience=QUICK)
        (part,) = (folder / ".melp-bench-fetch").glob("*.part")
        part.write_bytes(kept)
        site.asked.clear()
        assert fetch(download(site), folder, patience=QUICK).failed == ()
        assert site.requests_of(BIG) == starts
        assert content(folder) == FILES


@pytest.mark.parametrize(
    ("fault", "told"),
    [(404, "answers 404"), (410, "answers 410"), (403, "refuses it (403"), (("page",), "sent a web page in its place")],
)
def test_a_file_that_cannot_be_had_is_named_and_the_others_come(fault: object, told: str, site: Site, tmp_path: Path) -> None:
    site.faults[BIG] = [fault] * 9
    (failed,) = fetch(download(site), tmp_path, patience=QUICK).failed
    assert failed.startswith(f"{BIG!r}: ")
    assert told in failed
    assert len(content(tmp_path)) == len(FILES) - 1


def test_a_file_that_lies_at_another_address_is_fetched_from_there(site: Site, tmp_path: Path) -> None:
    site.files["elsewhere"] = FILES[BIG]
    site.faults[BIG] = [("moved", "/elsewhere")]
    assert fetch(download(site), tmp_path, patience=QUICK).failed == ()
    assert content(tmp_path) == FILES


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("http://127.0.0.1:1/x", "connection refused at 127.0.0.1:1, where 127.0.0.1:"),
        ("file:///etc/passwd", ": No connection adapters were found for 'file:///etc/passwd'"),
    ],
)
def test_an_address_that_leads_nowhere_costs_its_file_and_no_other(address: str, told: str, site: Site, tmp_path: Path) -> None:
    site.faults[BIG] = [("moved", address)] * 9
    (failed,) = fetch(download(site), tmp_path, patience=QUICK).failed
    assert told in failed
    assert len(content(tmp_path)) == len(FILES) - 1


def test_a_server_that_is_busy_is_asked_again(site: Site, tmp_path: Path) -> None:
    site.headers = {"Retry-After": "0"}
    site.faults[BIG] = [503, 429]
    assert fetch(download(site), tmp_path, patience=QUICK).failed == ()
    site.faults["table.csv"] = [500] * 9
    (tmp_path / "table.csv").unlink()
    (failed,) = fetch(download(site), tmp_path, patience=QUICK).failed
    assert "the server answers 500" in failed


def test_when_file_after_file_is_missing_the_rest_is_not_asked_for(tmp_path: Path) -> None:
    files = {f"{n}.dat": b"x" for n in range(400)}
    with serve(Site({"SHA256SUMS.txt": with_sums(files)["SHA256SUMS.txt"]})) as site:
        with pytest.raises(mb.UserError, match=r"50 files in a row cannot be had, the last '.*': the server answers 404"):
            fetch(download(site), tmp_path, patience=QUICK, jobs=2)
        assert len(site.asked) < 100


def test_a_slow_server_is_given_up_in_time(site: Site, tmp_path: Path) -> None:
    site.faults[BIG] = [("slow", 0.5)] * 9
    patience = Patience(tries=1, wait_s=0.0, silence_s=0.1)
    site.ranges = False
    (failed,) = fetch(download(site), tmp_path, patience=patience).failed
    assert "no answer in time" in failed


# ---------------------------------------------------------------------------------------------------------- selections


def test_only_what_is_selected_comes_and_the_tables_with_it(site: Site, tmp_path: Path) -> None:
    offered = download(site, always=("table.csv",))
    fetch(offered, tmp_path, only=["records100"], patience=QUICK)
    small = {name for name in FILES if name.startswith("records100/")} | {"table.csv"}
    assert set(content(tmp_path)) == small
    outcome = fetch(offered, tmp_path, only=["*/00001.*"], patience=QUICK)
    assert (outcome.fetched, outcome.kept) == (1, 2)
    assert set(content(tmp_path)) == small | {"records500/00001.dat"}
    with pytest.raises(
        mb.UserError, match=r"--only 'records50' fits no file of this dataset; the source's names are 'table.csv'"
    ):
        fetch(offered, tmp_path, only=["records50"], patience=QUICK)


def test_two_datasets_of_one_source_share_a_folder_and_two_sources_do_not(site: Site, tmp_path: Path) -> None:
    fetch(download(site, only=("records100",)), tmp_path, patience=QUICK)
    fetch(download(site, only=("records500/*",), always=("LICENSE.txt",)), tmp_path, patience=QUICK)
    assert content(tmp_path) == {name: body for name, body in FILES.items() if name != "table.csv"}
    with pytest.raises(mb.UserError, match=r"holds files of http.*/, not of http.*other; give another folder"):
        fetch(mb.Download(site.url + "other"), tmp_path, patience=QUICK)


def test_a_mirror_serves_files_and_the_source_their_digests(site: Site, tmp_path: Path) -> None:
    forged = {**FILES, BIG: b"forged"}
    with serve(Site(with_sums(forged))) as mirror:
        outcome = fetch(download(site), tmp_path, mirror=mirror.url, patience=QUICK)
        assert "SHA256SUMS.txt" not in {path for path, _ in mirror.asked}
    assert {path for path, _ in site.asked} == {"SHA256SUMS.txt"}
    (failed,) = outcome.failed
    assert failed.startswith(f"{BIG!r}: its SHA256 is ")
    assert content(tmp_path) == {name: body for name, body in FILES.items() if name != BIG}


def test_unfinished_is_what_was_begun_and_not_brought_to_its_end(site: Site, tmp_path: Path) -> None:
    assert unfinished(tmp_path) is None
    small = download(site)
    site.faults["records100/00001.dat"] = [404] * 2
    fetch(small, tmp_path, only=["records100"], patience=QUICK)
    assert unfinished(tmp_path / "records100") == tmp_path
    fetch(small, tmp_path, only=["table.csv"], patience=QUICK)
    assert unfinished(tmp_path) == tmp_path, "another selection does not end the first"
    site.faults.clear()
    fetch(small, tmp_path, patience=QUICK)
    assert unfinished(tmp_path) is None, "everything includes what was begun"


# ------------------------------------------------------------------------------------------------- folders and networks


def test_a_closed_port_and_an_unknown_name_are_one_line(tmp_path: Path) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound and not listening: refused
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}/"
        with pytest.raises(
            mb.UserError, match=r"127\.0\.0\.1:\d+ cannot be reached: connection refused; the same command goes on"
        ):
            fetch(mb.Download(url), tmp_path, patience=QUICK)
    with pytest.raises(mb.UserError, match="cannot be reached: its name is not found"):
        fetch(mb.Download("http://no-such-host.invalid/"), tmp_path, patience=QUICK)


def test_a_server_that_goes_away_ends_the_fetch_and_what_came_is_kept(tmp_path: Path) -> None:
    with serve(Site(with_sums(FILES))) as site:
        fetch(download(site), tmp_path, only=["records100"], patience=QUICK)
    with pytest.raises(mb.UserError, match="connection refused"):
        fetch(download(site), tmp_path, patience=QUICK)
    assert len(content(tmp_path)) == 6
    assert unfinished(tmp_path) == tmp_path


def test_a_full_disk_is_one_line_and_nothing_half_gets_a_name(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    fetch(download(site), tmp_path, only=["records100"], patience=QUICK)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(mb.UserError, match="No space left on device; make room there and run the same command again"):
        fetch(download(site), tmp_path, only=["records500"], patience=QUICK)
    monkeypatch.undo()
    assert len(content(tmp_path)) == 6
    assert fetch(download(site), tmp_path, patience=QUICK).failed == ()
    assert content(tmp_path) == FILES


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_one_line(site: Site, tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(mb.UserError, match="give a folder you can write"):
            fetch(download(site), tmp_path / "data", patience=QUICK)
    finally:
        tmp_path.chmod(stat.S_IRWXU)


def test_a_file_in_the_place_of_the_folder_is_told(site: Site, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("mine")
    with pytest.raises(mb.UserError, match="is not a folder; --to wants one"):
        fetch(download(site), tmp_path / "data", patience=QUICK)


def test_notes_that_a_kill_or_an_editor_spoilt_cost_a_reading_and_no_fetch(site: Site, tmp_path: Path) -> None:
    fetch(download(site), tmp_path, patience=QUICK)
    notes = tmp_path / ".melp-bench-fetch" / "verified"
    notes.write_bytes(notes.read_bytes()[:-30] + b"\x00\xff")
    (tmp_path / ".melp-bench-fetch" / "unfinished").write_text("{")
    site.asked.clear()
    outcome = fetch(download(site), tmp_path, patience=QUICK)
    assert (outcome.fetched, outcome.kept) == (0, len(FILES))
    assert site.asked == []
    assert unfinished(tmp_path) is None


def test_progress_counts_files_and_ends_at_all(site: Site, tmp_path: Path) -> None:
    from contextlib import nullcontext

    seen: list[tuple[int, int]] = []
    units: list[str] = []

    def stage(unit: str) -> nullcontext[object]:
        units.append(unit)
        return nullcontext(lambda done, total, note: seen.append((done, total)))

    fetch(download(site), tmp_path, only=["records100"], patience=QUICK, stage=stage)  # type: ignore[arg-type]
    fetch(download(site), tmp_path, patience=QUICK, stage=stage)  # type: ignore[arg-type]
    assert units == ["files", "files"]
    assert (0, 6) in seen
    assert (6, len(FILES)) in seen, "what was there counts from the start"
    assert seen[-1] == (len(FILES), len(FILES))
    assert all(done <= total for done, total in seen)


def test_a_download_is_checked_where_it_is_declared() -> None:
    with pytest.raises(ValueError, match="wanted an http address"):
        mb.Download("ftp://x/")
    with pytest.raises(ValueError, match="wanted an http address"):
        mb.Download("https://x/", listing="md5sums")  # type: ignore[arg-type]
    assert json.dumps(mb.Download("https://x/y").address("a/b")) == '"https://x/y/a/b"'
