"""A zip archive into a folder, member by member, each whole or not at all; names in it are judged as a server's are."""

from __future__ import annotations

import json
import shutil
import stat
import zipfile
import zlib
from pathlib import Path
from threading import Event

from melp_bench.errors import UserError
from melp_bench.fetch.listing import refusal
from melp_bench.fetch.transfer import Stopped, TransferProblem
from melp_bench.home import atomic_write, commit, unwritable

_CHUNK = 1 << 20


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
        Problem: it is no archive, or has a member that may not be written.
        UserError: there is no room.
        Stopped: `stop` was set; members that are there are written again the next time.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            _check(members, root)
            for member in members:
                _write(opened, member, archive, root, stop)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise TransferProblem(f"it cannot be unpacked ({error}); it lies at {str(archive)!r}") from error
    atomic_write(receipt, json.dumps([[member.filename, *_facts(root / member.filename)] for member in members]))
    archive.unlink()


def inside(root: Path, name: str) -> Path:
    """Return the path of `name` in `root`.

    Raises:
        Problem: the name may not be written, or a link on its way leads elsewhere.
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


def _check(members: list[zipfile.ZipInfo], root: Path) -> None:
    """Check names, kinds and room before anything is written."""
    for member in members:
        if stat.S_ISLNK(member.external_attr >> 16):
            raise TransferProblem(f"refused: its member {member.filename!r} is a link")
        try:
            inside(root, member.filename)
        except TransferProblem as problem:
            raise TransferProblem(f"its member {member.filename!r} is {problem}") from problem
    wanted, free = sum(member.file_size for member in members), shutil.disk_usage(root).free
    if wanted > free:
        raise UserError(
            f"{str(root)!r} has room for {free / 1e9:.1f} GB, and the archive unpacks to {wanted / 1e9:.1f} GB; make room"
        )


def _write(opened: zipfile.ZipFile, member: zipfile.ZipInfo, archive: Path, root: Path, stop: Event) -> None:
    """Write one member by way of a file beside the archive; its CRC-32 is checked as it is read to its end."""
    target, part = inside(root, member.filename), archive.with_suffix(".member.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with opened.open(member) as source, part.open("wb") as file:
            while chunk := source.read(_CHUNK):
                if stop.is_set():
                    raise Stopped
                file.write(chunk)
            file.flush()
            commit(file.fileno(), part, target)
    except OSError as error:
        raise unwritable(target, error) from error


def _facts(path: Path) -> list[int]:
    """Return size and modification time."""
    found = path.lstat()
    return [found.st_size, found.st_mtime_ns]
