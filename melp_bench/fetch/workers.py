"""The threads of a fetch: each takes a file at a time; one thread, the caller's, hands out, remembers and tells."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING
from urllib.parse import quote

import requests

from melp_bench.errors import UserError
from melp_bench.fetch.connection import session
from melp_bench.fetch.listing import Listed
from melp_bench.fetch.transfer import Patience, Stopped, TransferProblem, bring, differs
from melp_bench.fetch.unpack import ARCHIVES, inside, is_unpacked, unpack
from melp_bench.fetch.verified_files import VerifiedFiles

if TYPE_CHECKING:
    from melp_bench.components import Download

_TICK_S = 0.2
_FAREWELL_S = 2.0  # for threads that wait for a server when the fetch ends before its time
_HOPELESS = 50  # files that cannot be had, one after another; the rest would not be different


@dataclass(frozen=True)
class FetchOutcome:
    """What a fetch came to; texts are of the form "name: reason"."""

    fetched: int
    kept: int  # files that were there and right
    num_bytes: int  # that came over the network
    replaced: tuple[str, ...] = ()  # files that were there and wrong
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """What became of one file; `error` ends the whole fetch."""

    item: Listed
    fetched: bool = False
    replaced: str = ""
    problem: str = ""
    error: Exception | None = None


@dataclass
class Workers:
    """What the threads share."""

    download: Download
    base: str
    root: Path
    state: Path
    patience: Patience
    stop: threading.Event = field(default_factory=threading.Event)
    todo: SimpleQueue[Listed | None] = field(default_factory=SimpleQueue)
    done: SimpleQueue[Result] = field(default_factory=SimpleQueue)
    partial: dict[str, int] = field(default_factory=dict)  # bytes that are there of files in work, by name
    num_bytes: int = 0
    counting: threading.Lock = field(default_factory=threading.Lock)

    def work(self) -> None:
        """Take files until there is a None."""
        with session(self.patience.silence_s) as connection:
            while (item := self.todo.get()) is not None and not self.stop.is_set():
                try:
                    result = self.bring(connection, item)
                except TransferProblem as problem:
                    result = Result(item, problem=str(problem))
                except Stopped:
                    return
                except Exception as error:  # the caller's thread raises it
                    result = Result(item, error=error)
                self.done.put(result)

    def bring(self, connection: requests.Session, item: Listed) -> Result:
        """Make the file right, whatever lies in its place."""
        path = inside(self.root, item.name)
        archive, key = self.is_archive(item), _key(item)
        target = self.state / f"{key}.archive" if archive else path
        there = target.is_file()
        wrong = differs(target, item.algorithm, item.digest) if there else ""
        if wrong or not there:
            bring(
                connection,
                item.url if item.url and not self.base else self.download.address(quote(item.name), self.base),
                self.state / f"{key}.part",
                target,
                fault=lambda part: differs(part, item.algorithm, item.digest),
                patience=self.patience,
                stop=self.stop,
                tell=lambda size, new: self._tell(item, size, new),
            )
        if archive:
            unpack(target, self.root, self.receipt(item), self.stop)
        return Result(item, fetched=bool(wrong) or not there, replaced="" if archive else wrong)

    def has(self, verified_files: VerifiedFiles, item: Listed) -> bool:
        """Return True if the file is known to be right, without reading it."""
        return is_unpacked(self.receipt(item), self.root) if self.is_archive(item) else verified_files.knows(item)

    def is_archive(self, item: Listed) -> bool:
        """Return True if the file is to be unpacked and not kept."""
        return self.download.unpack and item.name.endswith(ARCHIVES)

    def receipt(self, item: Listed) -> Path:
        """Return where it is written what an archive was unpacked to."""
        return self.state / f"{_key(item)}.unpacked"

    def _tell(self, item: Listed, size: int, new: int) -> None:
        self.partial[item.name] = size
        with self.counting:
            self.num_bytes += new


def run(
    workers: Workers, verified_files: VerifiedFiles, items: Iterator[Listed], jobs: int, show: Callable[[int, int], None]
) -> FetchOutcome:
    """Bring all `items`, by `jobs` threads; `show` is called with (files, bytes) that are there as they grow.

    Raises:
        UserError: the server or the folder is of no use, or file after file cannot be had.
    """
    tally = _Tally(workers, verified_files, show)
    threads = [threading.Thread(target=workers.work, daemon=True) for _ in range(max(1, jobs))]
    try:
        for thread in threads:
            thread.start()
        for item in items:
            while len(tally.flying) >= 2 * len(threads) or item.name in tally.flying:
                tally.settle()
            if workers.has(verified_files, item):
                tally.kept += 1
            else:
                tally.flying.add(item.name)
                workers.todo.put(item)
        while tally.flying:
            tally.settle()
    finally:
        workers.stop.set()
        for _ in threads:
            workers.todo.put(None)
        ends = time.monotonic() + _FAREWELL_S
        for thread in threads:
            thread.join(max(0.0, ends - time.monotonic()))
    return FetchOutcome(tally.fetched, tally.kept, workers.num_bytes, tuple(tally.replaced), tuple(tally.failed))


class _Tally:
    """What the caller's thread knows of the threads' work."""

    def __init__(self, workers: Workers, verified_files: VerifiedFiles, show: Callable[[int, int], None]) -> None:
        self.workers, self.verified_files, self.show = workers, verified_files, show
        self.flying: set[str] = set()
        self.fetched = self.kept = self._whole = self._in_a_row = 0
        self.replaced: list[str] = []
        self.failed: list[str] = []

    def settle(self) -> None:
        """Take one result, if one comes soon, and tell where things are."""
        try:
            self._take(self.workers.done.get(timeout=_TICK_S))
        except Empty:
            pass
        finally:
            in_work = sum(list(self.workers.partial.values()))
            self.show(self.fetched + self.kept + len(self.failed), self._whole + in_work)

    def _take(self, result: Result) -> None:
        item = result.item
        self.flying.discard(item.name)
        size = self.workers.partial.pop(item.name, 0)
        if result.error is not None:
            raise result.error
        if result.problem:
            self.failed.append(f"{item.name!r}: {result.problem}")
            self._in_a_row += 1
            if self._in_a_row >= _HOPELESS:
                raise UserError(f"{self._in_a_row} files in a row cannot be had, the last {self.failed[-1]}; what came is kept")
            return
        self._in_a_row = 0
        self._whole += item.size or size
        if not self.workers.is_archive(item):
            self.verified_files.add(item)
        if result.fetched:
            self.fetched += 1
        else:
            self.kept += 1
        if result.replaced:
            self.replaced.append(f"{item.name!r}: {result.replaced}")


def _key(item: Listed) -> str:
    """Return a name for what belongs to this content under this name."""
    return hashlib.blake2b(f"{item.algorithm}:{item.digest} {item.name}".encode(), digest_size=16).hexdigest()
