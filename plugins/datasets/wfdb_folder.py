"""Any folder of WFDB records with a CSV of labels: a hospital's own data, one command away.

The table is `labels.csv` (or the file of that option) in the folder, in UTF-8, its cells parted by commas, semicolons or tabs.
Its column `record` names each record's header, relative to the folder; `.hea` behind it and Windows' backslashes do not
matter. Columns `patient`, `age`, `sex`, `report` and `fold` (1 to 10) are what they say and may lack; of every other column
each is a class, 1 where a record has it, 0 or empty where not. With `classes=a,b` only these columns are classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import melp_bench as mb
from melp_bench.splits import FOLDS
from melp_plugins.datasets.challenge import sex, years
from melp_plugins.datasets.tables import read_table, truth
from melp_plugins.datasets.wfdb_files import read_wfdb

_KNOWN = ("record", "patient", "age", "sex", "report", "fold")


class WFDBFolder(mb.Dataset):
    """A folder of WFDB records; which classes it has is known once its table has been read, or by `classes`."""

    citation = "the folder's owner"

    def __init__(
        self, *, labels: str = "labels.csv", classes: tuple[str, ...] = (), version: str = "1", licence: str = "its owner's"
    ) -> None:
        if Path(labels).is_absolute() or ".." in Path(labels).parts:
            raise mb.UserError(f"labels={labels!r} leaves the folder; put the table beside the records")
        self.labels, self.classes, self._found = labels, classes, classes
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
        for row, place in read_table(path, ("record", *self.classes)):
            found = self.classes or tuple(name for name in row if name not in _KNOWN)
            if not found:
                raise mb.UserError(f"{str(path)!r} has no column of a class; it has {list(row)}, wanted one more per class")
            for name in (*found, row["record"]):
                if not name.isprintable():
                    raise mb.UserError(f"{place}: {name[:40]!r} has characters that cannot be printed; rename it")
            self._found, self.has_official_folds = found, "fold" in row
            if not row["record"]:
                raise mb.UserError(f"{place}: record is empty; wanted the name of a header without .hea")
            record = PurePosixPath(row["record"].replace("\\", "/")).as_posix().removesuffix(".hea")
            yield mb.RecordInfo(
                record_id=record,
                patient_id=row.get("patient") or None,
                statements=frozenset(name for name in found if truth(row[name], name, place)),
                report=row.get("report", ""),
                age=years(row.get("age", "")),
                sex=sex(row.get("sex", "")),
                fold=_fold(row["fold"], place) if "fold" in row else None,
                path=record,
            )

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the record's signal."""
        return read_wfdb(source, info.path or "")


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
