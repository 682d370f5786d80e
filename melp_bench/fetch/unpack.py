"""A zip or tar archive into a folder, member by member, each whole or not at all; names in it are judged as a server's are."""

from __future__ import annotations

import json
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import IO

from melp_bench.errors import UserError
from melp_bench.fetch.listing import refusal
from melp_bench.fetch.transfer import Stopped, TransferProblem
from melp_bench.home import atomic_write, commit, unwritable

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
"""How the name of an archive ends; what it is, its content says: one of them calls a plain tar "records.tar.gz"."""

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Member:
    """A file in an archive."""

    name: str
    size: int
    is_plain: bool  # neither a link nor a device
    open: Callable[[], IO[bytes]]


def is_unpacked(receipt: Path, root: Path) -> bool:
    """Return True if every member that `receipt` names lies in `root` as it was unpacked, by size and time."""
    try:
        members = json.loads(receipt.read_bytes())
        return bool(members) and all(_facts(root / name) == [size, time_ns] for name, size, time_ns in members)
    except (OSError, ValueError, TypeError):
        return False


def unpack(archive: Path, root: Path, receipt: Path, stop: Event) -> None:
    """Unpack `archive`, whose digest was right, into `root`; write `receipt` and remove the archive, in this order.

    Raises:
        TransferProblem: it is no archive, or has a member that may not be written.
        UserError: there is no room.
        Stopped: `stop` was set; members that are there are written again the next time.
    """
    try:
        with _members(archive) as members:
            _check(members, root)
            for member in members:
                _write(member, archive, root, stop)
    except (zipfile.BadZipFile, tarfile.TarError, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise TransferProblem(f"it cannot be unpacked ({error}); it lies at {str(archive)!r}") from error
    atomic_write(receipt, json.dumps([[member.name, *_facts(root / member.name)] for member in members]))
    archive.unlink()


@contextmanager
def _members(archive: Path) -> Iterator[list[Member]]:
    """Open an archive, and hand out its files."""
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            yield [Member(one.name, one.size, one.isreg(), _from_tar(tar, one)) for one in tar.getmembers() if not one.isdir()]
        return
    with zipfile.ZipFile(archive) as opened:
        yield [
            Member(one.filename, one.file_size, not stat.S_ISLNK(one.external_attr >> 16), _from_zip(opened, one))
            for one in opened.infolist()
            if not one.is_dir()
        ]


def _from_zip(opened: zipfile.ZipFile, one: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    return lambda: opened.open(one)


def _from_tar(tar: tarfile.TarFile, one: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
    def opened() -> IO[bytes]:
        file = tar.extractfile(one)
        if file is None:
            raise tarfile.ExtractError(f"{one.name!r} has no content")
        return file

    return opened


def inside(root: Path, name: str) -> Path:
    """Return the path of `name` in `root`.

    Raises:
        TransferProblem: the name may not be written, or a link on its way leads elsewhere.
    """
    reason = refusal(name)
    if reason is not None:
        raise TransferProblem(f"refused: {reason}")
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise TransferProblem("refused: a link on its way leads out of the folder")
    if path.is_dir():
        raise TransferProblem("refused: a folder of its name is in its place")
    return path


def _check(members: list[Member], root: Path) -> None:
    """Check names, kinds and room before anything is written."""
    for member in members:
        if not member.is_plain:
            raise TransferProblem(f"refused: its member {member.name!r} is a link")
        try:
            inside(root, member.name)
        except TransferProblem as problem:
            raise TransferProblem(f"its member {member.name!r} is {problem}") from problem
    wanted, free = sum(member.size for member in members), shutil.disk_usage(root).free
    if wanted > free:
        raise UserError(
            f"{str(root)!r} has room for {free / 1e9:.1f} GB, and the archive unpacks to {wanted / 1e9:.1f} GB; make room"
        )


def _write(member: Member, archive: Path, root: Path, stop: Event) -> None:
    """Write one member by way of a file beside the archive; a zip's CRC-32 is checked as it is read to its end."""
    target, part = inside(root, member.name), archive.with_suffix(".member.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        size = 0
        with member.open() as source, part.open("wb") as file:
            while chunk := source.read(_CHUNK):
                if stop.is_set():
                    raise Stopped
                file.write(chunk)
                size += len(chunk)
            if size != member.size:
                raise EOFError(f"{member.name!r} ends after {size:,} of {member.size:,} bytes")
            file.flush()
            commit(file.fileno(), part, target)
    except OSError as error:
        raise unwritable(target, error) from error


def _facts(path: Path) -> list[int]:
    """Return size and modification time."""
    found = path.lstat()
    return [found.st_size, found.st_mtime_ns]
