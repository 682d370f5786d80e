"""What is known of a target folder: which files were verified, which selections are unfinished, whether a fetch is at work.

Files of `.melp-bench-fetch/`: `source` (the address), `verified` (a line per verified file, only ever appended to, so that a
kill costs at most its last line), `unfinished` (selections that were begun), `*.part` (beginnings of files).
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from melp_bench.errors import UserError
from melp_bench.fetch.listing import STATE, Listed
from melp_bench.home import atomic_write, make_folder, unwritable
from melp_bench.locks import LOCK, NO_LOCKS

Selection = tuple[str, list[str]]
"""A dataset's own patterns, as one text, and the user's."""


class VerifiedFiles:
    """The state of a target folder, held by one process at a time.

    A verified file is known again by its name, digest, size and modification time: the time to read 90 GB is not spent twice.
    About 150 bytes of memory per file.
    """

    def __init__(self, root: Path, source: str) -> None:
        self.root = root
        self.state = root / STATE
        self._source = source
        self._known: set[bytes] = set()
        self._lock = FileLock(self.state / LOCK)

    def __enter__(self) -> VerifiedFiles:
        """Take the folder.

        Raises:
            UserError: it cannot be written, holds another source's files, or another fetch is at work in it.
        """
        if self.root.exists() and not self.root.is_dir():
            raise UserError(f"{str(self.root)!r} is not a folder; --to wants one, or a new name")
        make_folder(self.root)
        make_folder(self.state)
        path = self.state / "verified"
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise unwritable(path, error) from error
        try:
            self._take()
            line = b"\n"
            with path.open("rb") as notes:
                for line in notes:
                    self._known.add(_short(line))
            if not line.endswith(b"\n"):
                self._file.write(b"\n")  # the last line of a process that was killed
        except BaseException:
            self._file.close()
            self._lock.release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        self._lock.release()

    def _take(self) -> None:
        """Lock the folder, where its file system can, and check whose files it holds."""
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(f"another fetch is at work in {str(self.root)!r}; wait for it, or give another folder") from error
        except (NotImplementedError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in NO_LOCKS:
                raise unwritable(self.state / LOCK, error) from error
        path = self.state / "source"
        had = path.read_text(encoding="utf-8") if path.exists() else self._source
        if had != self._source:
            raise UserError(f"{str(self.root)!r} holds files of {had}, not of {self._source}; give another folder")

    def knows(self, item: Listed) -> bool:
        """Return True if the file was verified and has not changed since, by its size and time."""
        line = self._line(item)
        return line is not None and _short(line) in self._known

    def add(self, item: Listed) -> None:
        """Remember that the file, as it lies there, is what `item` says."""
        line = self._line(item)
        if line is None:
            return
        self._known.add(_short(line))
        try:
            self._file.write(line)
        except OSError as error:
            raise unwritable(self.state / "verified", error) from error

    def _line(self, item: Listed) -> bytes | None:
        """Return what is remembered of a file; None if there is no plain file of its name."""
        try:
            found = os.lstat(f"{self.root}/{item.name}")  # of millions of files: a Path takes twice as long
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        return f"{item.algorithm}:{item.digest} {found.st_size} {found.st_mtime_ns} {item.name}\n".encode()

    def begin(self, selection: Selection) -> None:
        """Remember whose files these are, and that a selection was begun."""
        if not (self.state / "source").exists():
            atomic_write(self.state / "source", self._source)
        begun = _selections(self.state)
        if selection not in begun:
            atomic_write(self.state / "unfinished", json.dumps([*begun, selection]))

    def finish(self, selection: Selection) -> None:
        """Remember that a selection is there; all of a dataset includes any part of it."""
        dataset, only = selection
        left = [one for one in _selections(self.state) if one[0] != dataset or (only and one[1] != only)]
        if left:
            atomic_write(self.state / "unfinished", json.dumps(left))
            return
        (self.state / "unfinished").unlink(missing_ok=True)
        for path in self.state.glob("*.part"):
            path.unlink()


def unfinished(folder: Path) -> Path | None:
    """Return the folder, `folder` or one around it, into which a fetch was begun and not finished; None if there is none."""
    whole = folder.absolute()
    return next((place for place in (whole, *whole.parents) if (place / STATE / "unfinished").is_file()), None)


def _selections(state: Path) -> list[Selection]:
    """Return the selections that were begun; what makes no sense is left out."""
    try:
        found = json.loads((state / "unfinished").read_bytes())
        return [(str(dataset), [str(pattern) for pattern in only]) for dataset, only in found]
    except (FileNotFoundError, ValueError, TypeError):
        return []


def _short(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).digest()
