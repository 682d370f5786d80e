"""A fetch from beginning to end: the source's list, what of it is wanted, and what of that is not there yet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from melp_bench.errors import UserError
from melp_bench.fetch.connection import refuse_secrets
from melp_bench.fetch.listing import Listed, matches, read_list
from melp_bench.fetch.source_list import fetch_list
from melp_bench.fetch.transfer import Patience
from melp_bench.fetch.verified_files import VerifiedFiles
from melp_bench.fetch.workers import FetchOutcome, Workers, run

if TYPE_CHECKING:
    from melp_bench.components import Download

Advance = Callable[[int, int, str], None]
Stage = Callable[[str], AbstractContextManager[Advance]]
"""Begins the work, counted in the unit it is given; what it gives is called with done, total and a note as the work goes on."""


@dataclass(frozen=True)
class _Count:
    """How much is wanted and how much of it is there; bytes are None where the source does not state sizes."""

    files: int
    known: int
    bytes_all: int | None
    bytes_known: int


def fetch(
    download: Download,
    folder: Path,
    *,
    only: Sequence[str] = (),
    mirror: str = "",
    jobs: int = 8,
    patience: Patience | None = None,
    stage: Stage = lambda unit: nullcontext(lambda done, total, note: None),
) -> FetchOutcome:
    """Bring the files of `download` to `folder` and return what became of them.

    `only` narrows the selection by patterns. `mirror` is another address of the same files; the list of digests comes from the
    source all the same. Whatever stops the process, a second call goes on where the first one was.

    Raises:
        UserError: no file is selected, the server cannot be reached, the folder cannot be written or is another source's.
    """
    refuse_secrets(mirror or download.url)
    borne = patience or Patience()
    with VerifiedFiles(folder, download.url) as verified_files:
        workers = Workers(download, mirror, folder.resolve(), verified_files.state, borne)
        listed = partial(read_list, fetch_list(download, verified_files, borne), download.listing)
        wanted = partial(_wanted, listed, download, only)
        if only and not any(matches(item.name, only) for item in wanted()):
            shown = ", ".join(repr(item.name) for item in islice(listed(), 3))
            raise UserError(f"--only {' '.join(only)!r} fits no file of this dataset; the source's names are {shown}, ...")
        count = _count(workers, verified_files, wanted())
        if count.files == 0:
            raise UserError(f"the list of {download.url} names no file of this dataset")
        selection = (" ".join(sorted(download.only)), sorted(only))
        verified_files.begin(selection)
        if count.known == count.files:
            outcome = FetchOutcome(fetched=0, kept=count.known, num_bytes=0)
        else:
            with stage("files" if count.bytes_all is None else "MB") as advance:
                outcome = run(workers, verified_files, wanted(), jobs, _bar(workers, count, advance))
        if not outcome.failed:
            verified_files.finish(selection)
        return outcome


def _wanted(listed: Callable[[], Iterable[Listed]], download: Download, only: Sequence[str]) -> Iterator[Listed]:
    """Yield what the dataset reads and the user selects, and the tables without which no record is read."""
    for item in listed():
        own = not download.only or matches(item.name, download.only)
        if matches(item.name, download.always) or (own and (not only or matches(item.name, only))):
            yield item


def _count(workers: Workers, verified_files: VerifiedFiles, items: Iterable[Listed]) -> _Count:
    """Count what is wanted and what is there; nothing but names, sizes and times is read."""
    files = known = bytes_all = bytes_known = 0
    stated = True
    for item in items:
        has = workers.has(verified_files, item)
        files, known = files + 1, known + has
        stated = stated and item.size is not None
        bytes_all, bytes_known = bytes_all + (item.size or 0), bytes_known + (item.size or 0) * has
    return _Count(files, known, bytes_all if stated else None, bytes_known)


def _bar(workers: Workers, count: _Count, advance: Advance) -> Callable[[int, int], None]:
    """Return what tells how far things are, in files or, where sizes are known, in megabytes."""
    began = time.monotonic()

    def show(files: int, num_bytes: int) -> None:
        if count.bytes_all is None:
            speed = workers.num_bytes / 1e6 / max(time.monotonic() - began, 1e-3)
            advance(files, count.files, f"{speed:,.1f} MB/s")
        else:
            done = min(count.bytes_known + num_bytes, count.bytes_all)
            advance(done // 1_000_000, max(count.bytes_all // 1_000_000, 1), f"{files:,} of {count.files:,} files")

    if count.bytes_all is None:
        advance(count.known, count.files, "")
    else:
        advance(count.bytes_known // 1_000_000, max(count.bytes_all // 1_000_000, 1), "")
    return show
