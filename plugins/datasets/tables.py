"""Tables as CSV, read without trusting a cell."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import melp_bench as mb

_TRUTH = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[dict[str, str], str]]:
    """Yield each row with its blanks trimmed, and its place for messages ("exams.csv line 7").

    Raises:
        UserError: the file cannot be read or lacks one of `columns`.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            had = list(reader.fieldnames or ())
            lacking = [name for name in columns if name not in had]
            if lacking:
                raise mb.UserError(f"{str(path)!r} lacks the columns {lacking}; it has {had[:40]}")
            for row in reader:
                yield {name: (row[name] or "").strip() for name in had if name}, f"{path.name} line {reader.line_num}"
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise mb.UserError(f"cannot read {str(path)!r}: {error}; --from wants the folder that holds it") from error


def truth(cell: str, column: str, place: str) -> bool:
    """Return a cell as a truth value; an empty one is False.

    Raises:
        UserError: it is neither 0, 1, true, false nor empty.
    """
    value = _TRUTH.get(cell.casefold()) if cell else False
    if value is None:
        raise mb.UserError(f"{place}: {column} is {cell[:40]!r}; wanted 0, 1, true or false")
    return value
