"""Where melp-bench keeps what it makes, and how a file gets there whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from uuid import uuid4

from melp_bench.errors import UserError

TEMPORARY = ".tmp-"
"""Prefix of a file that is still being written; one that is left over comes from a killed process."""


def home() -> Path:
    """Return the folder of stores, runs and boards: `$MELP_BENCH_HOME`, or `melp-bench` in the user's cache folder."""
    chosen = os.environ.get("MELP_BENCH_HOME")
    if chosen:
        return Path(chosen).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache).expanduser() if cache else Path.home() / ".cache") / "melp-bench"


def make_folder(path: Path) -> Path:
    """Return `path`, made if it was not there.

    Raises:
        UserError: it cannot be made or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"cannot write in {str(path)!r}: no permission; {_advice(path)}")
    return path


def atomic_write(path: Path, content: bytes | str) -> None:
    """Write `content` to `path` whole or not at all, whatever kills the process; text is UTF-8.

    Raises:
        UserError: the file cannot be written.
    """
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            commit(file.fileno(), temporary, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def commit(descriptor: int, temporary: Path, path: Path) -> None:
    """Give the flushed file `temporary`, open as `descriptor`, its name `path`, durably."""
    os.fsync(descriptor)
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def unwritable(path: Path, error: OSError) -> UserError:
    """Return the error that tells why `path` cannot be written, and what to do."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    advice = "make room there and run the same command again" if full else _advice(path)
    return UserError(f"cannot write {str(path)!r}: {error.strerror or error}; {advice}")


def _advice(path: Path) -> str:
    own = path.absolute().is_relative_to(home().absolute())
    return "set MELP_BENCH_HOME to a folder you can write" if own else "give a folder you can write"
