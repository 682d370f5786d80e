"""What a source lists: names with digests. A name comes from a server, so that it is judged before a path is made of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from melp_bench.errors import UserError

STATE = ".melp-bench-fetch"
"""The folder, in the target, of what is not finished and of what is known."""

SUMS = "SHA256SUMS.txt"

_LINE = re.compile(rb"([0-9a-fA-F]{64}) [ *]?(.+)")
_LONGEST = 255  # bytes of a name between slashes that file systems take


@dataclass(frozen=True, slots=True)
class Listed:
    """A file as the source lists it; `size` in bytes and `url`, where the source states them."""

    name: str
    algorithm: str  # as hashlib names it
    digest: str
    size: int | None = None
    url: str = ""  # where it is served, if that does not follow from its name


def read_list(path: Path, kind: str) -> Iterator[Listed]:
    """Yield the files of a list that was fetched: `kind` is "sha256sums", "zenodo" or "figshare".

    Raises:
        UserError: it is not such a list.
    """
    yield from {"sha256sums": _read_sums, "zenodo": _read_record, "figshare": _read_article}[kind](path)


def _read_sums(path: Path) -> Iterator[Listed]:
    """Yield the lines of a SHA256SUMS.txt; it may have millions, so that it is never held whole."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            match = _LINE.fullmatch(line.rstrip(b"\r\n"))
            try:
                name = match[2].decode() if match else ""
            except UnicodeDecodeError:
                name = ""
            if match is None or not name:
                raise UserError(
                    f"line {number} of {SUMS} is {line[:40]!r}; wanted a SHA-256 and a name, as PhysioNet writes them"
                )
            yield Listed(name.removeprefix("./"), "sha256", match[1].decode().lower())


def _read_record(path: Path) -> Iterator[Listed]:
    """Yield the files of a record as Zenodo's API tells it: `files`, each with `key`, `size` and `checksum` "md5:...".

    Source: developers.zenodo.org, Records.
    """
    try:
        for file in json.loads(path.read_bytes())["files"]:
            algorithm, _, digest = str(file["checksum"]).partition(":")
            if algorithm not in ("md5", "sha256") or not re.fullmatch(r"[0-9a-fA-F]{32,64}", digest):
                raise UserError(f"the record states the checksum {str(file['checksum'])[:80]!r}; wanted md5:... or sha256:...")
            yield Listed(str(file["key"]), algorithm, digest.lower(), int(file["size"]))
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError("this is no Zenodo record with files that are open to everyone") from error


def _read_article(path: Path) -> Iterator[Listed]:
    """Yield the files of an article as figshare's API tells it: `files`, each with `name`, `size`, MD5s and `download_url`.

    Source: docs.figshare.com, PublicFile.
    """
    try:
        for file in json.loads(path.read_bytes())["files"]:
            digest, url = str(file.get("computed_md5") or file.get("supplied_md5") or ""), str(file["download_url"])
            if not re.fullmatch(r"[0-9a-fA-F]{32}", digest) or not url.startswith(("https://", "http://")):
                raise UserError(f"the article states the MD5 {digest[:80]!r} and the address {url[:80]!r}; wanted both")
            yield Listed(str(file["name"]), "md5", digest.lower(), int(file["size"]), url)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError("this is no figshare article with files that are open to everyone") from error


def refusal(name: str) -> str | None:
    """Return why no path is made of `name`, as a server or an archive states it, with slashes; None if one may be."""
    parts = name.split("/")
    if name.startswith("/") or any(part in ("", ".", "..") for part in parts) or "\\" in name:
        return "its name leads out of the folder"
    if not name.isprintable():
        return "its name has characters that cannot be printed"
    if any(len(part.encode()) > _LONGEST for part in parts) or len(parts) > 64:
        return "its name is too long"
    if parts[0] == STATE or name == SUMS:
        return "its name belongs to the fetch itself"
    return None


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Return True if `name` fits any pattern; `*` crosses folders, and a folder's name stands for all that is in it."""
    return any(fnmatchcase(name, pattern) or name.startswith(f"{pattern.rstrip('/')}/") for pattern in patterns)
