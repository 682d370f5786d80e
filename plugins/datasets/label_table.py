"""The CSV of a folder of one's own: what it says of each record, whichever format the records have.

Its column `record` names each record's file, relative to the folder; Windows' backslashes do not matter. Columns `patient`,
`age`, `sex`, `report` and `fold` (1 to 10) are what they say and may lack; of every other column each is a class, 1 where a
record has it, 0 or empty where not. A column of nearly such a name (`patient_id`, `Sex`) is refused until it is said what it
is. Words for "not known" (see `melp_bench.records.stated`) are empty cells in every column but `record`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import melp_bench as mb
from melp_bench.records import stated
from melp_bench.splits import FOLDS
from melp_plugins.datasets.cells import UnreadCells, sex, truth, years
from melp_plugins.datasets.columns import FEMALE, MALE, plain, taken_columns, told_columns
from melp_plugins.datasets.tables import read_header, read_table

_SEX_OF = {name: {True: yes, False: no} for names, yes, no in ((MALE, "M", "F"), (FEMALE, "F", "M")) for name in names}


class LabelTable:
    """A table's columns and what they were taken for; `rows` yields its records.

    With `files_tell`, files say who and what their records are, and the table needs no other column than `record`.

    Attributes:
        classes: columns that are classes.
        has_folds: True if it has a column of folds.
    """

    def __init__(self, path: Path, *, columns: Mapping[str, str], classes: tuple[str, ...], files_tell: bool = False) -> None:
        had = read_header(path)
        self._path, self._taken = path, taken_columns(had, columns, classes, path.name)
        if "record" not in self._taken:
            raise mb.UserError(f"{str(path)!r} lacks the columns ['record']; it has {had[:40]}")
        known = (*self._taken, *self._taken.values())
        self.classes = classes or tuple(name for name in had if name and name not in known)
        if not (files_tell or self.classes):
            raise mb.UserError(f"{str(path)!r} has no column of a class; it has {had[:40]}, wanted one more per class")
        self.has_folds, self._asked, self._unread = "fold" in self._taken, classes, UnreadCells()
        self._nobody = "patients are those of the files" if files_tell else "every record is a patient of its own"

    def rows(self) -> Iterator[mb.RecordInfo]:
        """Yield every row as a record; its path and its id are the cell `record`."""
        for row, place in read_table(self._path, (self._taken["record"], *self._asked)):
            yield self._info(row, place)

    @property
    def remarks(self) -> list[str]:
        """What columns were taken for and which cells were not understood, a sentence each; known once all rows were read."""
        return [told_columns(self._taken, self.classes, self._path.name, self._nobody), *self._unread.remarks()]

    def _info(self, row: Mapping[str, str], place: str) -> mb.RecordInfo:
        cells = {role: row[column] for role, column in self._taken.items()}
        for name in (*self.classes, cells["record"]):
            if not name.isprintable():
                raise mb.UserError(f"{place}: {name[:40]!r} has characters that cannot be printed; rename it")
        if not cells["record"]:
            raise mb.UserError(f"{place}: record is empty; wanted the name of a file in the folder")
        for name in self.classes:
            if row[name] and not stated(row[name]):
                self._unread.count(name, row[name])
        record = PurePosixPath(cells["record"].replace("\\", "/")).as_posix()
        return mb.RecordInfo(
            record_id=record,
            patient_id=cells.get("patient") or None,
            statements=frozenset(name for name in self.classes if truth(row[name], name, place)),
            report=cells.get("report", ""),
            age=self._unread.read(years, "age", cells.get("age", "")),
            sex=self._sex(cells.get("sex", ""), place),
            fold=_fold(cells["fold"], place) if "fold" in cells else None,
            path=record,
        )

    def _sex(self, cell: str, place: str) -> str | None:
        """Return a cell's sex; 0 and 1 are read where the column's name says what they stand for."""
        column = self._taken.get("sex", "")
        if (of := _SEX_OF.get(plain(column))) is not None:
            return of[truth(cell, column, place)] if stated(cell) else None
        return self._unread.read(sex, "sex", cell)


def class_tasks(classes: tuple[str, ...]) -> dict[str, mb.Task]:
    """Return one task, `all`, with these classes; none where there are none."""
    if not classes:
        return {}
    members = {name: frozenset({name}) for name in classes}
    prompts = {name: (name.replace("_", " "),) for name in classes}
    return {"all": mb.Task("all", members, prompts, keep_unlabelled=True)}


def inner_table(labels: str) -> str:
    """Return the name of a table, which must lie in the folder.

    Raises:
        UserError: it does not.
    """
    if Path(labels).is_absolute() or ".." in Path(labels).parts:
        raise mb.UserError(f"labels={labels!r} leaves the folder; put the table beside the records")
    return labels


def _fold(cell: str, place: str) -> int:
    if cell.isascii() and cell.isdigit() and int(cell) in FOLDS:
        return int(cell)
    known = f"{FOLDS[0]} to {FOLDS[-1]}"
    raise mb.UserError(f"{place}: fold is {cell[:20]!r}; wanted {known}, or no column of that name")
