"""One process at a time in a folder: the others wait, say for whom, and then look at what the first has made.

Files in the folder: `.lock`, empty and never removed (who waits has it open), and while it is held `.lock.json`, which says who
holds it. The kernel frees the lock of a process that dies, however it dies. A file system without such locks gets a file whose
being there is the lock; one that a killed process left there is named, so that it can be deleted.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from melp_bench.home import make_folder, unwritable

LOCK, HOLDER, SOFT = ".lock", ".lock.json", ".lock.soft"
LOCK_FILES = (LOCK, HOLDER, SOFT)
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)
SECONDS = 0.1  # between two looks at a lock that another process holds

Tell = Callable[[str], None]

logger = logging.getLogger(__name__)


@contextmanager
def folder_lock(folder: Path, task: str, tell: Tell = logger.warning) -> Iterator[None]:
    """Hold the lock of `folder`, which is made if it is not there; while another process holds it, tell for whom it waits.

    `task` says what is done under it ("preparing 'ptb-xl'"). What another process may have made meanwhile is there afterwards:
    look again. A process must not take a lock that it holds.

    Raises:
        UserError: the folder cannot be written.
    """
    make_folder(folder)
    lock = _taken(folder, tell)
    try:
        told = {"task": task, "pid": os.getpid(), "host": socket.gethostname(), "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}
        (folder / HOLDER).write_text(json.dumps(told), encoding="utf-8")
        yield
    finally:
        (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def empty_folder(folder: Path) -> None:
    """Remove everything in `folder` but its lock, which must be held."""
    for path in folder.iterdir():
        if path.name in LOCK_FILES:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _taken(folder: Path, tell: Tell) -> BaseFileLock:
    """Return the folder's lock, taken, of the kind that its file system has."""
    try:
        return _waited(FileLock(folder / LOCK), folder, tell, "")
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise unwritable(folder / LOCK, error) from error
    soft = folder / SOFT
    logger.warning("the file system of %r has no locks of its own; the file %s stands for one", str(folder), SOFT)
    return _waited(SoftFileLock(soft), folder, tell, f"; if it is no more, delete {str(soft)!r}")


def _waited(lock: BaseFileLock, folder: Path, tell: Tell, advice: str) -> BaseFileLock:
    """Return the lock once it is taken; a wait is told when it begins."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tell(f"waiting for {_holder(folder)}{advice}")
        lock.acquire(timeout=-1, poll_interval=SECONDS)
    return lock


def _holder(folder: Path) -> str:
    """Return who holds the lock of `folder`, as far as it is told."""
    try:
        told = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        return f"process {told['pid']} on {told['host']}, which is {told['task']} since {told['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return f"another process at work in {str(folder)!r}"
