"""What a store was read from: the folder, and name, size and time of every native file, as one digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from melp_bench.canonical import canonical_json
from melp_bench.records import BadRecord, Dataset, RecordInfo
from melp_bench.store.shard import check_inside

SOURCE_FILE = "source.json"
"""The file of a finished store that says what it was read from; `store.json` holds nothing of the machine."""


@dataclass(frozen=True)
class SourceState:
    """A source folder as it was when its records were read.

    Attributes:
        folder: where it lies, links followed.
        num_files: native files of the records that were there.
        files: SHA-256 of name, size and time of change of each of them, and of the names that were not there.
    """

    folder: str
    num_files: int
    files: str

    def dump(self) -> str:
        """Return the text of `source.json`."""
        return canonical_json(asdict(self))


def source_state(dataset: Dataset, source: Path, infos: Sequence[RecordInfo]) -> SourceState:
    """Return the state of the files that the records `infos` are read from; each is looked at once, none is opened.

    A file is known by name, size and time of change: to read 800,000 records again in order to know that nothing changed would
    cost as much as to prepare them.
    """
    sha, num_files, seen = hashlib.sha256(), 0, ""
    for info in infos:
        for name in dataset.files(source, info) if _is_inside(info.path) else ():
            if name == seen:  # a file of many records
                continue
            seen = name
            try:
                status = (source / name).stat()
                sha.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogatepass"))
                num_files += 1
            except (OSError, ValueError):  # not there, or no name of a file at all
                sha.update(f"{name}\0-\n".encode(errors="surrogatepass"))
    return SourceState(str(source.resolve()), num_files, sha.hexdigest())


def _is_inside(path: str | None) -> bool:
    """Return True if a record's path stays in the source; one that does not is quarantined, and no file of it is looked at."""
    try:
        check_inside(path or "")
    except BadRecord:
        return False
    return True


def read_source(folder: Path) -> SourceState | None:
    """Return what the store in `folder` was read from; None where it does not say."""
    try:
        fields = json.loads((folder / SOURCE_FILE).read_text(encoding="utf-8"))
        return SourceState(str(fields["folder"]), int(fields["num_files"]), str(fields["files"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
