"""Signals as text: a table of numbers with a lead per column, under a header or without one, or a lead per row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import melp_bench as mb

_MAX_BYTES = 50_000_000


def read_columns(path: Path) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Return the samples (L, T) of a file with a lead per column, and the leads; the usual twelve where no header names them.

    Raises:
        BadRecord: it is missing, empty, too large, or holds anything but a table of numbers.
    """
    lines = _lines(path)
    names = tuple(cell.strip().strip('"') for cell in lines[0].split(","))
    named = not any(_is_number(name) for name in names)
    numbers = _numbers(lines[1:] if named else lines, path)  # (T, L)
    if numbers.shape[1] != len(names) or (not named and len(names) != len(mb.LEADS)):
        raise mb.BadRecord("wrong-shape", f"{path.name!r} has {numbers.shape[1]} columns; wanted {len(mb.LEADS)}")
    return np.ascontiguousarray(numbers.T), names if named else mb.LEADS


def read_rows(path: Path) -> NDArray[np.float32]:
    """Return the samples (12, T) of a file with a lead per row, in the usual order.

    Raises:
        BadRecord: it is missing, empty, too large, or holds anything but twelve rows of numbers.
    """
    numbers = _numbers(_lines(path), path)
    if len(numbers) != len(mb.LEADS):
        raise mb.BadRecord("wrong-shape", f"{path.name!r} has {len(numbers)} rows; wanted {len(mb.LEADS)}, a lead each")
    return numbers


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise mb.BadRecord("missing-file", path.name)
    size = path.stat().st_size
    if size == 0:
        raise mb.BadRecord("zero-byte-file", path.name)
    if size > _MAX_BYTES:
        raise mb.BadRecord("unreadable-samples", f"{path.name!r} has {size:,} bytes, more than a record can have")
    lines = [line for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines() if line.strip()]
    if not lines:
        raise mb.BadRecord("unreadable-samples", f"{path.name!r} has nothing but blanks")
    return lines


def _numbers(lines: list[str], path: Path) -> NDArray[np.float32]:
    if not lines:
        raise mb.BadRecord("missing-samples", f"{path.name!r} has a header and no samples")
    try:
        return np.loadtxt(lines, delimiter=",", dtype=np.float32, ndmin=2, comments=None)
    except ValueError as error:
        raise mb.BadRecord("unreadable-samples", f"{path.name!r} is no table of numbers: {error}") from error


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
