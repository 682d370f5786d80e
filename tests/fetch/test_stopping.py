"""A fetch that is stopped, by kill -9 or Ctrl-C, keeps every byte; the next one asks for the rest only."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from server import Site, serve, with_sums
from test_fetch import QUICK, content

import melp_bench as mb
from melp_bench.fetch import fetch, unfinished
from melp_bench.fetch.verified_files import VerifiedFiles

RANDOM = np.random.default_rng(2)
FILES = {f"records/{n:02d}.dat": RANDOM.bytes(150_000 + n) for n in range(8)}
SLOW = "records/05.dat"
STARTED = "records/06.dat"
COMMAND = """
import sys
import melp_bench as mb
from melp_bench.cli import main
from melp_plugins.datasets.ludb import LUDB
LUDB.download = mb.Download(sys.argv[1])
main(["data", "fetch", "ludb", "--to", sys.argv[2], "--jobs", "2"])
"""


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(Site(with_sums(FILES))) as served:
        yield served


def stopped(site: Site, folder: Path, how: signal.Signals, when: Callable[[], bool]) -> tuple[int, str]:
    """Start the command, send it a signal once `when` is so, and return its exit status and standard error."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, site.url, str(folder)],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # tests may run in the background
    )
    try:
        while not when():
            assert process.poll() is None, "the fetch ended before its time"
            time.sleep(0.005)
        process.send_signal(how)
        told = process.communicate(timeout=60)[1]
        return process.returncode, told
    finally:
        process.kill()
        process.wait()


def size_of(part: Path) -> int:
    """Return a part's size, 0 where the fetch has just finished it and given it its name."""
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_fetch_goes_on_with_the_rest_and_ends_in_the_same_bytes(
    how: signal.Signals, site: Site, tmp_path: Path
) -> None:
    site.faults[SLOW] = [("slow", 30.0)]
    site.faults[STARTED] = [("slow", 30.0)]

    def halves_lie_on_disk() -> bool:
        halves = [size_of(path) for path in (tmp_path / ".melp-bench-fetch").glob("*.part")]
        return halves.count(75_002) + halves.count(75_003) == 2

    line = "melp-bench: interrupted; what was finished is kept, and the same command goes on from there\n"
    assert stopped(site, tmp_path, how, halves_lie_on_disk) == ((-9, "") if how == signal.SIGKILL else (2, line))
    assert unfinished(tmp_path) == tmp_path
    kept = content(tmp_path)
    assert 0 < len(kept) < len(FILES)
    assert kept.items() <= FILES.items(), "a file has its name only when it is whole"
    assert not [
        path for path in tmp_path.rglob("*") if path.suffix in (".dat", ".hea", ".csv") and path.stat().st_size < 150_000
    ]

    site.asked.clear()
    site.sent.clear()
    outcome = fetch(mb.Download(site.url), tmp_path, patience=QUICK)
    assert content(tmp_path) == FILES
    assert outcome.fetched + outcome.kept == len(FILES)
    assert site.requests_of(SLOW) == [75_002]
    assert site.requests_of(STARTED) == [75_003]
    assert site.sent[SLOW] == len(FILES[SLOW]) - 75_002
    asked = {path for path, _ in site.asked}
    assert asked.isdisjoint(kept), "what was whole is not asked for again"
    assert "SHA256SUMS.txt" not in asked
    assert unfinished(tmp_path) is None


def test_two_fetches_into_one_folder_do_not_meet(site: Site, tmp_path: Path) -> None:
    with VerifiedFiles(tmp_path, site.url), pytest.raises(mb.UserError, match="another fetch is at work in"):
        fetch(mb.Download(site.url), tmp_path, patience=QUICK)
    assert fetch(mb.Download(site.url), tmp_path, patience=QUICK).fetched == len(FILES)
