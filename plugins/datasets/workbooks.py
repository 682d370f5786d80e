"""The first sheet of Excel workbooks, as `tables` reads CSV; through `openpyxl`, which the extra `xlsx` installs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import melp_bench as mb

_MAX_BYTES = 100_000_000


def read_workbook(path: Path, columns: Sequence[str]) -> Iterator[tuple[dict[str, str], str]]:
    """Yield each row of the first sheet as texts with its blanks trimmed, and its place for messages ("table.xlsx row 7").

    Raises:
        UserError: `openpyxl` is not installed, or the file cannot be read, or lacks one of `columns`.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise mb.UserError(
            f"{path.name!r} is a workbook; pip install 'melp-bench[xlsx]', or save it as {path.with_suffix('.csv').name!r}"
        ) from error
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise mb.UserError(f"{str(path)!r} is larger than {_MAX_BYTES:,} bytes; wanted a table")
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            rows = ([_text(cell) for cell in row] for row in book.worksheets[0].iter_rows(values_only=True))
            had = next(rows, [])
            lacking = [name for name in columns if name not in had]
            if lacking:
                raise mb.UserError(f"{str(path)!r} lacks the columns {lacking}; it has {had[:40]}")
            for number, row in enumerate(rows, 2):
                if any(row):
                    yield dict(zip(had, row, strict=False)), f"{path.name} row {number}"
        finally:
            book.close()
    except mb.UserError:
        raise
    except Exception as error:  # openpyxl meets a broken file with any exception there is
        raise mb.UserError(f"cannot read {str(path)!r}: {type(error).__name__}: {error}; fetch it again") from error


def _text(cell: object) -> str:
    """Return a cell as a CSV of the table would have it: a whole number without its decimal."""
    if cell is None:
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()
