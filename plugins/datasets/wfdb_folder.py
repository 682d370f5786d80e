"""Any folder of WFDB records with a CSV of labels: a hospital's own data, one command away.

The table is `labels.csv` (or the file of that option) in the folder, in UTF-8, its cells parted by commas, semicolons or tabs.
Its column `record` names each record's header, relative to the folder; `.hea` or `.dat` behind it and Windows' backslashes do
not matter. Columns `patient`, `age`, `sex`, `report` and `fold` (1 to 10) are what they say and may lack; of every other column
each is a class, 1 where a record has it, 0 or empty where not. With `classes=a,b` only these columns are classes.

A column of nearly such a name (`patient_id`, `Sex`) is refused until `columns` says what it is: `patient=patient_id`. Words for
"not known" (see `melp_bench.records.stated`) are empty cells in every column but `record`. Leads that go by names of the
device are named by `leads`: `X=V1`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import melp_bench as mb
from melp_bench.leads import canonical_lead
from melp_bench.records import stated
from melp_bench.splits import FOLDS
from melp_plugins.datasets.cells import UnreadCells, sex, truth, years
from melp_plugins.datasets.columns import FEMALE, MALE, named_columns, plain, taken_columns, told_columns
from melp_plugins.datasets.folders import files_below
from melp_plugins.datasets.tables import read_header, read_table
from melp_plugins.datasets.wfdb_files import native_files, read_wfdb

_ENDING = re.compile(r"\.(hea|dat|mat)$")
_OTHER_FILES = {".dcm": "DICOM", ".xml": "XML", ".scp": "SCP-ECG", ".edf": "EDF", ".ecg": "ISHNE", ".mwf": "MFER"}
_SEX_OF = {name: {True: yes, False: no} for names, yes, no in ((MALE, "M", "F"), (FEMALE, "F", "M")) for name in names}


class WFDBFolder(mb.Dataset):
    """A folder of WFDB records; which classes it has is known once its table has been read, or by `classes`."""

    citation = "the folder's owner"

    def __init__(
        self,
        *,
        labels: str = "labels.csv",
        classes: tuple[str, ...] = (),
        columns: tuple[str, ...] = (),
        leads: tuple[str, ...] = (),
        version: str = "1",
        licence: str = "its owner's",
    ) -> None:
        if Path(labels).is_absolute() or ".." in Path(labels).parts:
            raise mb.UserError(f"labels={labels!r} leaves the folder; put the table beside the records")
        self.labels, self.classes, self._found = labels, classes, classes
        self.columns, self.leads = named_columns(columns), _named_leads(leads)
        self.version, self.licence = version, licence

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """One task, `all`, with the classes of the table; none before a table was read."""
        if not self._found:
            return {}
        members = {name: frozenset({name}) for name in self._found}
        prompts = {name: (name.replace("_", " "),) for name in self._found}
        return {"all": mb.Task("all", members, prompts, keep_unlabelled=True)}

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every record of the table."""
        path = source / self.labels
        if not path.exists():
            _refuse_other_files(source)
        had = read_header(path)
        taken = taken_columns(had, self.columns, self.classes, path.name)
        if "record" not in taken:
            raise mb.UserError(f"{str(path)!r} lacks the columns ['record']; it has {had[:40]}")
        found = self.classes or tuple(name for name in had if name and name not in (*taken, *taken.values()))
        if not found:
            raise mb.UserError(f"{str(path)!r} has no column of a class; it has {had[:40]}, wanted one more per class")
        self._found, self.has_official_folds = found, "fold" in taken
        unread = UnreadCells()
        columns = told_columns(taken, found, path.name)
        for row, place in read_table(path, (taken["record"], *self.classes)):
            yield self._info(row, place, taken, unread)
        self.remarks = [columns, *unread.remarks()]

    def _info(self, row: Mapping[str, str], place: str, taken: Mapping[str, str], unread: UnreadCells) -> mb.RecordInfo:
        cells = {role: row[column] for role, column in taken.items()}
        for name in (*self._found, cells["record"]):
            if not name.isprintable():
                raise mb.UserError(f"{place}: {name[:40]!r} has characters that cannot be printed; rename it")
        if not cells["record"]:
            raise mb.UserError(f"{place}: record is empty; wanted the name of a header without .hea")
        for name in self._found:
            if row[name] and not stated(row[name]):
                unread.count(name, row[name])
        record = _ENDING.sub("", PurePosixPath(cells["record"].replace("\\", "/")).as_posix())
        return mb.RecordInfo(
            record_id=record,
            patient_id=cells.get("patient") or None,
            statements=frozenset(name for name in self._found if truth(row[name], name, place)),
            report=cells.get("report", ""),
            age=unread.read(years, "age", cells.get("age", "")),
            sex=_sex(cells.get("sex", ""), taken.get("sex", ""), place, unread),
            fold=_fold(cells["fold"], place) if "fold" in cells else None,
            path=record,
        )

    def files(self, source: Path, info: mb.RecordInfo) -> Iterator[str]:
        """Yield the header and the signal files that it names."""
        return native_files(source, info.path or "")

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the record's signal, its leads by the names of `leads`."""
        return self._read(source, info.path or "")

    def read_file(self, path: Path) -> mb.Signal | None:
        """Return the signal of the record that a header or a signal file beside it belongs to."""
        stem = _ENDING.sub("", path.name)
        return self._read(path.parent, stem) if (path.parent / f"{stem}.hea").is_file() else None

    def _read(self, source: Path, path: str) -> mb.Signal:
        signal = read_wfdb(source, path, leads=self.leads)
        return replace(signal, leads=tuple(self.leads.get(name, name) for name in signal.leads))


def _refuse_other_files(source: Path) -> None:
    """Tell of a folder without a table that it holds files of another kind, if it does.

    Raises:
        UserError: it does, and no WFDB header.
    """
    endings = Counter(path.suffix.casefold() for path in files_below(source, "*.*"))
    kinds = [kind for ending, kind in _OTHER_FILES.items() if endings[ending]]
    if kinds and not endings[".hea"]:
        raise mb.UserError(
            f"{str(source)!r} holds {' and '.join(kinds)} files and no WFDB header; this dataset reads WFDB: "
            "take the dataset of these files (melp-bench list), or convert them"
        )


def _named_leads(given: Sequence[str]) -> dict[str, str]:
    """Return name -> lead from "X=V1"."""
    named: dict[str, str] = {}
    for text in given:
        name, sign, lead = (part.strip() for part in text.rpartition("="))
        if not (name and sign) or name in named:
            raise mb.UserError(f"lead {text!r}; wanted the name in the files and the lead that it is, each once, as in X=V1")
        named[name] = canonical_lead(lead)
    return named


def _sex(cell: str, column: str, place: str, unread: UnreadCells) -> str | None:
    """Return a cell's sex; 0 and 1 are read where the column's name says what they stand for."""
    if (of := _SEX_OF.get(plain(column))) is not None:
        return of[truth(cell, column, place)] if stated(cell) else None
    return unread.read(sex, "sex", cell)


def _fold(cell: str, place: str) -> int:
    if cell.isascii() and cell.isdigit() and int(cell) in FOLDS:
        return int(cell)
    known = f"{FOLDS[0]} to {FOLDS[-1]}"
    raise mb.UserError(f"{place}: fold is {cell[:20]!r}; wanted {known}, or no column of that name")


@mb.hookimpl
def melp_datasets() -> list[mb.Entry[mb.Dataset]]:
    """Offer a folder of WFDB records."""
    return [
        mb.Entry(
            name="wfdb-folder",
            build=WFDBFolder,
            summary="your own folder of WFDB records with labels.csv",
            source="https://physionet.org/physiotools/wag/header-5.htm",
            license="its owner's",
        )
    ]
