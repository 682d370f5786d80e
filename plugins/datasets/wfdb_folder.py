"""Any folder of WFDB records with a CSV of labels: a hospital's own data, one command away.

The table is `labels.csv` (or the file of that option) in the folder, in UTF-8, its cells parted by commas, semicolons or
tabs; `label_table` says what its columns are. `.hea` or `.dat` behind a record's name do not matter. With `classes=a,b` only
these columns are classes; `columns` says what one is that has nearly a role's name: `patient=patient_id`. Leads that go by
names of the device are named by `leads`: `X=V1`, `R=-aVR` where its samples are upside down.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import melp_bench as mb
from melp_plugins.datasets.columns import named_columns, named_leads
from melp_plugins.datasets.ecg_file_kinds import ENDINGS
from melp_plugins.datasets.folders import files_below
from melp_plugins.datasets.label_table import LabelTable, class_tasks, inner_table
from melp_plugins.datasets.wfdb_files import native_files, read_wfdb

_ENDING = re.compile(r"\.(hea|dat|mat)$", re.IGNORECASE)


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
        self.labels, self.classes, self._found = inner_table(labels), classes, classes
        self.columns, self.leads = named_columns(columns), named_leads(leads)
        self.version, self.licence = version, licence

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """One task, `all`, with the classes of the table; none before a table was read."""
        return class_tasks(self._found)

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every record of the table."""
        path = source / self.labels
        if not path.exists():
            _refuse_other_files(source)
        table = LabelTable(path, columns=self.columns, classes=self.classes)
        self._found, self.has_official_folds = table.classes, table.has_folds
        for number, row in enumerate(table.rows()):
            record = _ENDING.sub("", row.record_id)
            inside = not Path(record).is_absolute() and ".." not in Path(record).parts
            if not number and inside and not (source / f"{record}.hea").is_file():
                _refuse_other_files(source)
            yield replace(row, record_id=record, path=record)
        self.remarks = table.remarks

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
    """Tell of a folder without a WFDB header that it holds files of another kind, if it does.

    Raises:
        UserError: it does.
    """
    endings = Counter(path.suffix.casefold() for path in files_below(source, "*.*"))
    kinds = sorted({kind for ending, kind in ENDINGS.items() if endings[ending]})
    if kinds and not endings[".hea"]:
        raise mb.UserError(
            f"{str(source)!r} holds {' and '.join(kinds)} files and no WFDB header, which this dataset reads; "
            f"take the dataset of such files: melp-bench data prepare ecg-files --from {shlex.quote(str(source))}"
        )


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
