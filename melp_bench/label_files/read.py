"""Label files read exactly as they are: label columns by position, statements beside them, a digest of every file.

Shapes: N rows, C classes.
"""

from __future__ import annotations

import ast
import csv
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from melp_bench.errors import UserError
from melp_bench.label_files.layout import PARTS, Layout

_MARKS = {"0": False, "1": True, "0.0": False, "1.0": True}
_MAX_CELL = 10_000  # characters of a list of statements


@dataclass(frozen=True)
class LabelFile:
    """One file.

    Attributes:
        path: relative to the folder that the user gave, as the layout has it.
        verified: "stated" if the digest is the one that the protocol states, "published" if it is that of the published file.
        record_ids: N ids, in the file's order.
        classes: C names, as this file's header has them.
        labels: (N, C), column by column.
        texts: N cells of statements as they are; empty where the file has none.
        statements: N sets of statements by name; empty where the file has none.
    """

    path: str
    sha256: str
    verified: Literal["stated", "published", "unknown"]
    record_ids: tuple[str, ...]
    classes: tuple[str, ...]
    labels: NDArray[np.bool_]
    texts: tuple[str, ...]
    statements: tuple[frozenset[str], ...]

    def __len__(self) -> int:
        return len(self.record_ids)


@dataclass(frozen=True)
class LabelFiles:
    """The files of one task, by part. All have equally many label columns, named alike but not always in one order."""

    layout: Layout
    parts: Mapping[str, LabelFile]

    @property
    def sha256(self) -> dict[str, str]:
        """The digest of every file, by path."""
        return {file.path: file.sha256 for file in self.parts.values()}

    @property
    def misnamed(self) -> tuple[str, ...]:
        """The classes of the test file whose column holds another class in training or validation."""
        train, val, test = (self.parts[part].classes for part in PARTS)
        return tuple(name for i, name in enumerate(test) if {train[i], val[i]} != {name})


def read_files(folder: Path, layout: Layout, stated: Mapping[str, str] | None = None) -> LabelFiles:
    """Return the label files of `layout` below `folder`; `stated` holds digests that files must have, by path.

    Raises:
        UserError: a file is missing, is not of this form, is not the one stated, or a record is in two places.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {str(folder)!r}; give the folder data_split of the published label files")
    parts = {part: _read(folder, layout, part, stated or {}) for part in PARTS}
    first = parts["train"]
    for file in parts.values():
        if sorted(file.classes) != sorted(first.classes):
            odd = sorted(set(file.classes) ^ set(first.classes))
            raise UserError(
                f"{file.path!r} and {first.path!r} have label columns for different classes: {odd}; give one release"
            )
    seen: dict[str, str] = {}
    for file in parts.values():
        for record in file.record_ids:
            if record in seen:
                raise UserError(f"record {record!r} is in {seen[record]!r} and in {file.path!r}; wanted every record once")
            seen[record] = file.path
    return LabelFiles(layout, parts)


def _read(folder: Path, layout: Layout, part: str, stated: Mapping[str, str]) -> LabelFile:
    path = layout.file(part)
    try:
        content = (folder / path).read_bytes()
    except OSError as error:
        wanted = f"give the folder that holds {PurePosixPath(path).parts[0]}/"
        raise UserError(f"cannot read label file {str(folder / path)!r}: {error.strerror}; {wanted}") from error
    sha256 = hashlib.sha256(content).hexdigest()
    if path in stated and stated[path].lower() != sha256:
        raise UserError(f"label file {path!r} has SHA-256 {sha256}, and the protocol states {stated[path]}; give that file")
    verified: Literal["stated", "published", "unknown"] = "stated" if path in stated else "unknown"
    if sha256 == layout.known(part):
        verified = "published"
    header, rows = _table(content, path)
    classes = _classes(header, layout, path)
    ids, texts, statements = [], [], []
    labels = np.zeros((len(rows), len(classes)), dtype=np.bool_)
    for i, (line, row) in enumerate(rows):
        place = f"{path!r} line {line}"
        if len(row) != len(header):
            raise UserError(f"{place} has {len(row)} cells; wanted the header's {len(header)}")
        ids.append(_record_id(row[header.index(layout.record)], place))
        labels[i] = _labels(row[layout.first_class :], classes, place)
        if layout.statements is not None:
            texts.append(row[header.index(layout.statements)])
            statements.append(_statements(texts[-1], layout, place))
    return LabelFile(path, sha256, verified, tuple(ids), classes, labels, tuple(texts), tuple(statements))


def _table(content: bytes, path: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return header and rows, each with its line number; empty lines are passed over."""
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        rows = [(reader.line_num, row) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"label file {path!r} is not a CSV in UTF-8: {error}; fetch it again") from error
    if len(rows) < 2:
        raise UserError(f"label file {path!r} has no rows; fetch it again")
    return rows[0][1], rows[1:]


def _classes(header: list[str], layout: Layout, path: str) -> tuple[str, ...]:
    classes, before = header[layout.first_class :], header[: layout.first_class]
    wanted = [name for name in (layout.record, layout.statements) if name is not None]
    if lacking := [name for name in wanted if name not in before]:
        raise UserError(f"{path!r} lacks {lacking} among its first {layout.first_class} columns; it has {before}")
    if not classes or len(set(header)) < len(header) or not all(classes):
        raise UserError(f"{path!r} has the label columns {classes}; wanted at least one, and every name once")
    return tuple(classes)


def _record_id(cell: str, place: str) -> str:
    """Return the id in a cell: the cell, or of a path the file's name without its ending."""
    name = PurePosixPath(cell.strip()).stem if "/" in cell else cell.strip()
    if not name:
        raise UserError(f"{place} names no record")
    return name


def _labels(cells: list[str], classes: tuple[str, ...], place: str) -> list[bool]:
    marks = [_MARKS.get(cell.strip()) for cell in cells]
    if None in marks:
        wrong = marks.index(None)
        raise UserError(f"{place}: column {classes[wrong]!r} is {cells[wrong][:20]!r}; wanted 0 or 1")
    return [bool(mark) for mark in marks]


def _statements(cell: str, layout: Layout, place: str) -> frozenset[str]:
    """Return what a cell lists, each name whole."""
    if layout.form == "commas":
        return frozenset(name.strip() for name in cell.split(",") if name.strip())
    try:
        names = ast.literal_eval(cell) if len(cell) < _MAX_CELL else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{place}: {layout.statements} is {cell[:40]!r}; wanted a list of names, ['NORM', 'AVB']")
    return frozenset(names)
