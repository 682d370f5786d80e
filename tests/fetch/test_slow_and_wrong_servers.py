"""Servers that trickle, ask to come again, or state a wrong length: nothing hangs, nothing wrong gets a name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest
from server import Site, serve, with_sums
from test_fetch import BIG, FILES, QUICK, content, download

from melp_bench.fetch import Patience, fetch
from melp_bench.fetch.connection import session
from melp_bench.fetch.transfer import _asked_wait_s, bring

HASTY = Patience(tries=2, wait_s=0.0, connect_s=5.0, silence_s=0.3, slowest=10_000.0)


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(Site(with_sums(FILES))) as served:
        yield served


def test_a_body_that_trickles_is_cut_off_although_each_byte_is_new(site: Site, tmp_path: Path) -> None:
    """A byte a minute is never a silence: a fetch of 90 kB hung for two months."""
    site.faults[BIG] = [("trickle", 100, 0.1)] * 9
    began = time.monotonic()
    (failed,) = fetch(download(site), tmp_path, patience=HASTY).failed
    assert time.monotonic() - began < 5
    assert failed.startswith(f"{BIG!r}: ")
    assert "bytes in 0 s, 2 times each slower than can be waited for" in failed
    assert len(site.requests_of(BIG)) <= 3
    assert len(content(tmp_path)) == len(FILES) - 1
    site.faults.clear()
    assert fetch(download(site), tmp_path, patience=HASTY).failed == ()
    assert site.requests_of(BIG)[-1] > 0, "what trickled in is kept"
    assert content(tmp_path) == FILES


def test_a_slow_body_that_is_fast_enough_is_waited_for(site: Site, tmp_path: Path) -> None:
    site.faults[BIG] = [("trickle", 10_000, 0.1)]
    assert fetch(download(site), tmp_path, patience=HASTY).failed == ()
    assert site.requests_of(BIG) == [0]
    assert content(tmp_path) == FILES


def test_a_head_that_trickles_is_cut_off(site: Site, tmp_path: Path) -> None:
    site.faults[BIG] = [("slow head", 0.1)] * 9
    began = time.monotonic()
    (failed,) = fetch(download(site), tmp_path, patience=HASTY).failed
    assert time.monotonic() - began < 5
    assert "the connection was cut, 2 times without a new byte" in failed


@pytest.mark.parametrize("fault", [("length", -5_000), ("length", 5_000), ("no length",), ("chunked",)])
def test_a_length_that_is_wrong_or_not_stated_costs_a_request_at_most(
    fault: tuple[object, ...], site: Site, tmp_path: Path
) -> None:
    site.faults[BIG] = [fault]
    assert fetch(download(site), tmp_path, patience=QUICK).failed == ()
    assert content(tmp_path) == FILES
    assert len(site.requests_of(BIG)) <= 2
    if fault in (("no length",), ("chunked",)):
        assert site.requests_of(BIG) == [0]


@pytest.mark.parametrize("fault", [("length", -5_000), ("length", 5_000)])
def test_a_length_that_stays_wrong_is_given_up(fault: tuple[object, ...], site: Site, tmp_path: Path) -> None:
    site.ranges = False
    site.faults[BIG] = [fault] * 20
    (failed,) = fetch(download(site), tmp_path, patience=QUICK).failed
    assert failed.startswith(f"{BIG!r}: ")
    assert len(site.requests_of(BIG)) <= 4
    assert len(content(tmp_path)) == len(FILES) - 1


class Waits(Event):
    """An event that waits for nothing and remembers for how long it should have."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout or 0.0)
        return self.is_set()


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("form", "told"), [("seconds", 7.0), ("date", 7.0), ("nonsense", 1.0), ("past", 1.0)])
def test_a_server_that_says_when_to_come_again_is_obeyed(status: int, form: str, told: float, tmp_path: Path) -> None:
    """A date is compared with the server's clock, here a year before ours; where it says nothing sensible, our own wait."""
    now = time.time() - 365 * 86_400
    asked = {"seconds": "7", "date": formatdate(now + 7, usegmt=True), "nonsense": "soon", "past": formatdate(0, usegmt=True)}
    stop = Waits()
    with serve(Site({"a.dat": b"a"})) as site:
        site.faults["a.dat"] = [("status", status, {"Retry-After": asked[form], "Date": formatdate(now, usegmt=True)})]
        bring(
            session(),
            f"{site.url}a.dat",
            tmp_path / "a.part",
            tmp_path / "a.dat",
            fault=lambda path: "",
            patience=Patience(wait_s=0.5),
            stop=stop,
            tell=lambda size, new: None,
        )
        assert site.requests_of("a.dat") == [0, 0]
    assert stop.seconds == [told]
    assert (tmp_path / "a.dat").read_bytes() == b"a"


def test_nobody_is_waited_for_longer_than_two_minutes() -> None:
    def asked(retry: str, date: str = "") -> float:
        return _asked_wait_s(SimpleNamespace(headers={"Retry-After": retry} | ({"Date": date} if date else {})))  # type: ignore[arg-type]

    assert asked("999999") == 120.0
    assert asked(formatdate(time.time() + 86_400, usegmt=True)) == 120.0
    assert asked(formatdate(time.time() + 60, usegmt=True)) == pytest.approx(60, abs=2)
    assert asked("") == asked("-5") == asked("1e9") == 0.0


def test_a_server_that_starts_again_at_the_top_when_asked_for_the_rest_is_followed(site: Site, tmp_path: Path) -> None:
    """206 for the first cut, then ranges are ignored: 200 with the whole file."""
    site.faults[BIG] = [("cut", 20_000)]
    fetch(download(site), tmp_path, only=["table.csv"], patience=QUICK)
    site.ranges = False
    assert fetch(download(site), tmp_path, patience=QUICK).failed == ()
    assert site.requests_of(BIG) == [0, 20_000]
    assert content(tmp_path) == FILES


def test_a_range_that_cannot_be_had_of_a_spoilt_beginning_costs_one_request(site: Site, tmp_path: Path) -> None:
    """416 for more than there is: what lies there is judged by its digest and fetched anew."""
    site.faults[BIG] = [("cut", 10), 404]
    fetch(download(site), tmp_path, patience=QUICK)
    (part,) = (tmp_path / ".melp-bench-fetch").glob("*.part")
    part.write_bytes(b"x" * (len(FILES[BIG]) + 10))
    site.asked.clear()
    assert fetch(download(site), tmp_path, patience=QUICK).failed == ()
    assert site.requests_of(BIG) == [len(FILES[BIG]) + 10, 0]


def test_a_redirection_without_end_costs_its_file_and_no_other(site: Site, tmp_path: Path) -> None:
    site.files["loop"] = b""
    site.faults[BIG] = [("moved", "/loop")] * 9
    site.faults["loop"] = [("moved", "/loop")] * 999
    (failed,) = fetch(download(site), tmp_path, patience=Patience(tries=1, wait_s=0.0)).failed
    assert "redirects" in failed
    assert len(content(tmp_path)) == len(FILES) - 1
