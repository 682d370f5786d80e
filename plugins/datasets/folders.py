"""The files of a folder at any depth, through links to other folders too, in an order that every machine has."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator
from pathlib import Path


def files_below(source: Path, pattern: str) -> list[Path]:
    """Return the files below `source` whose names match `pattern` ("*.hea"), sorted by path.

    Folders that are links are followed where what they lead to lies nowhere else below `source`; each folder is looked into
    once, so that a link to a folder above ends nowhere.
    """
    return sorted(path for path in _files(source) if fnmatch.fnmatchcase(path.name, pattern))


def _files(source: Path) -> Iterator[Path]:
    """Yield all files below `source`; what is reached without a link comes first, and is not reached again."""
    seen: set[tuple[int, int]] = set()
    tops = [source]
    for top in tops:
        if not top.is_dir() or _place(top) in seen:
            continue
        for name, inner, names in os.walk(top):
            folder = Path(name)
            seen.add(_place(folder))
            links = sorted(one for one in inner if (folder / one).is_symlink())
            tops += [folder / one for one in links]
            inner[:] = sorted(one for one in inner if one not in links and _place(folder / one) not in seen)
            yield from (folder / one for one in names)


def _place(folder: Path) -> tuple[int, int]:
    """Return what tells a folder from every other, whatever path leads to it."""
    status = folder.stat()
    return status.st_dev, status.st_ino
