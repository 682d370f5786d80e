"""Tables as CSV, read without trusting a cell; the header says whether commas, semicolons or tabs part the cells."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import melp_bench as mb


def read_header(path: Path) -> list[str]:
    """Return the names of a table's columns.

    Raises:
        UserError: the file cannot be read or has a column twice.
    """
    with _opened(path) as file:
        return _names(csv.DictReader(file, delimiter=_delimiter(file)), path)


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[dict[str, str], str]]:
    """Yield each row with its blanks trimmed, and its place for messages ("exams.csv line 7").

    Raises:
        UserError: the file cannot be read, lacks one of `columns`, or has a column twice.
    """
    with _opened(path) as file:
        reader = csv.DictReader(file, delimiter=_delimiter(file))
        had = list(reader.fieldnames or ())
        lacking = [name for name in columns if name not in had]
        if lacking:
            raise mb.UserError(f"{str(path)!r} lacks the columns {lacking}; it has {had[:40]}")
        _names(reader, path)
        for row in reader:
            place = f"{path.name} line {reader.line_num}"
            if None in row or None in row.values():
                num_cells = sum(cell is not None for cell in row.values()) + len(row.get(None) or ()) - (None in row)
                raise mb.UserError(
                    f"{place} has {num_cells} cells, the header {len(had)}; is it cut off, or a comma not quoted?"
                )
            yield {name: row[name].strip() for name in had if name}, place


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """Open a table; whatever is wrong with the file while it is read is the user's to mend."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except UnicodeDecodeError as error:
        raise mb.UserError(
            f"{str(path)!r} is not UTF-8 ({error.reason} at byte {error.start}); save it as CSV in UTF-8"
        ) from error
    except (OSError, csv.Error) as error:
        raise mb.UserError(f"cannot read {str(path)!r}: {error}; --from wants the folder that holds it") from error


def _names(reader: csv.DictReader[str], path: Path) -> list[str]:
    had = list(reader.fieldnames or ())
    if twice := sorted({name for name in had if name and had.count(name) > 1}):
        raise mb.UserError(f"{str(path)!r} has the columns {twice[:8]} twice; give each column a name of its own")
    return had


def _delimiter(file: TextIO) -> str:
    """Return what parts the cells of the first line, outside quotes: the commonest of comma, semicolon and tab."""
    header = re.sub(r'"[^"]*"', "", file.readline())
    file.seek(0)
    return max(",;\t", key=header.count)
