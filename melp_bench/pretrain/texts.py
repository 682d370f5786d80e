"""Reports from files: one per line of .txt, one per row of .jsonl and .parquet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from melp_bench.errors import UserError

FIELDS = ("report", "text")
HELD_OUT = 20
"""One report in so many is held out."""


def read_reports(source: Path) -> list[str]:
    """Return the reports of a file, or of all files below a folder in the order of their names; blank ones are left out.

    Of rows it is the first of the columns `FIELDS` that there is.

    Raises:
        UserError: there is no such file or folder, no report in it, or a row without such a column.
    """
    if not source.exists():
        raise UserError(f"no reports at {str(source)!r}; wanted a folder or a file of {', '.join(READERS)}")
    files = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.suffix in READERS and p.is_file())
    if any(file.suffix not in READERS for file in files):
        raise UserError(f"{str(source)!r} is of no kind that we read; wanted {', '.join(READERS)}")
    found = [text for file in files for report in READERS[file.suffix](file) if (text := report.strip())]
    if not found:
        raise UserError(f"no report in {str(source)!r}; looked into {len(files)} files of {', '.join(READERS)}")
    return found


def split_by_text(reports: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions to train on, and those held out: by the SHA-256 of the text, so that copies stay together."""
    drawn = [int(hashlib.sha256(report.encode()).hexdigest()[:8], 16) % HELD_OUT == 0 for report in reports]
    held = np.array(drawn, dtype=bool)
    return np.flatnonzero(~held), np.flatnonzero(held)


def _lines(file: Path) -> Iterator[str]:
    try:
        yield from file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{str(file)!r} is not UTF-8 text ({error.reason})") from error


def _json_rows(file: Path) -> Iterator[str]:
    for number, line in enumerate(_lines(file), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{str(file)!r}, line {number}: not JSON ({error.msg})") from error
        if not isinstance(row, dict):
            raise UserError(f'{str(file)!r}, line {number}: {line.strip()[:20]!r} is no row; wanted {{"report": "..."}}')
        value = row[_field(list(row), f"{str(file)!r}, line {number}")]
        if not isinstance(value, str | None):
            raise UserError(f"{str(file)!r}, line {number}: the report is {json.dumps(value)[:20]}; wanted text")
        yield value or ""


def _parquet_rows(file: Path) -> Iterator[str]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(file)
        name = _field(table.schema_arrow.names, repr(str(file)))
        kind = table.schema_arrow.field(name).type
        kind = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
        if not any(is_text(kind) for is_text in (pyarrow.types.is_string, pyarrow.types.is_large_string)):
            raise UserError(f"{str(file)!r}: the column {name!r} holds {kind}; wanted text")
        for batch in table.iter_batches(columns=[name]):
            yield from (value for value in batch.column(0).to_pylist() if value is not None)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{str(file)!r} cannot be read as Parquet ({str(error).splitlines()[0]})") from error


def _field(names: Sequence[str], where: str) -> str:
    chosen = next((name for name in FIELDS if name in names), None)
    if chosen is None:
        raise UserError(f"{where} has no {' or '.join(FIELDS)!r}; it has {list(names)[:12]}; name the column of the reports so")
    return chosen


READERS: dict[str, Callable[[Path], Iterator[str]]] = {
    ".txt": _lines,
    ".jsonl": _json_rows,
    ".parquet": _parquet_rows,
}
