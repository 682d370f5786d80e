"""Where melp-bench keeps what it makes, and how a file gets there whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import time
from pathlib import Path
from uuid import uuid4

from melp_bench.errors import UserError

TEMPORARY = ".tmp-"
"""Prefix of a file that is still being written; one that is left over comes from a killed process."""
A_DAY = 86_400.0  # seconds


def home() -> Path:
    """Return the folder of stores, runs and boards: `$MELP_BENCH_HOME`, or `melp-bench` in the user's cache folder.

    Raises:
        UserError: the system knows no home of this user, as in a container with a user id of its own.
    """
    chosen = os.environ.get("MELP_BENCH_HOME")
    cache = os.environ.get("XDG_CACHE_HOME")
    try:
        if chosen:
            return Path(chosen).expanduser()
        return (Path(cache).expanduser() if cache else Path.home() / ".cache") / "melp-bench"
    except RuntimeError as error:
        raise UserError(
            "the system knows no home folder of this user; set MELP_BENCH_HOME to a folder you can write"
        ) from error


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
    temporary = temporary_path(path)
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            commit(file.fileno(), temporary, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def temporary_path(path: Path) -> Path:
    """Return a name beside `path` that nobody else uses; it tells machine and process, see `remove_leftovers`."""
    return path.with_name(f"{TEMPORARY}{_machine()}-{os.getpid()}-{path.name[-80:]}-{uuid4().hex}")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files in `folder` of processes of this machine that are no more, and any that is a day old."""
    for path in folder.glob(f"{TEMPORARY}*"):
        machine, _, rest = path.name.removeprefix(TEMPORARY).partition("-")
        process = rest.partition("-")[0]
        try:
            old = time.time() - path.stat().st_mtime > A_DAY
            if old or (machine == _machine() and process.isdigit() and not _lives(int(process))):
                path.unlink(missing_ok=True)
        except OSError:  # gone meanwhile, or not ours
            continue


def _machine() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def commit(descriptor: int, temporary: Path, path: Path) -> None:
    """Give the flushed file `temporary`, open as `descriptor`, its name `path`, durably."""
    os.fsync(descriptor)
    temporary.replace(path)
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError:  # where a folder cannot be opened as a file, it cannot be synchronised either; the file is whole
        return
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.EACCES):
            raise
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
