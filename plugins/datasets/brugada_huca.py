"""Brugada-HUCA 1.0.0: 363 records of 12 s at 100 Hz of people examined for Brugada syndrome, a record each; no official folds.

Data: Costa Cortez and Garcia Iglesias, Brugada-HUCA, PhysioNet (2026), Hospital Universitario Central de Asturias. Reads
`metadata.csv` (patient_id, basal_pattern, sudden_death, brugada) and the WFDB files `files/ID/ID`. `brugada` is 0 for who was
examined and is healthy, 1 for the confirmed syndrome, 2 for other and atypical: of people who were sent there, not of
everybody. Statements are "column: value".

Written from PhysioNet's description and those of others who have the files; none was at hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import melp_bench as mb
from melp_plugins.datasets.cells import UnreadCells
from melp_plugins.datasets.folders import files_below
from melp_plugins.datasets.tables import read_table
from melp_plugins.datasets.task_tables import read_tasks
from melp_plugins.datasets.wfdb_files import native_files, read_wfdb

_TABLE = "metadata.csv"
_VALUES = {"basal_pattern": "01", "sudden_death": "01", "brugada": "012"}


class BrugadaHUCA(mb.Dataset):
    """12-lead ECGs of people examined for Brugada syndrome."""

    version = "1.0.0"
    licence = "CC BY-SA 4.0"
    citation = "Costa Cortez and Garcia Iglesias, Brugada-HUCA (2026), PhysioNet doi:10.13026/0m2w-dy83"
    homepage = "https://physionet.org/content/brugada-huca/1.0.0/"
    download = mb.Download("https://physionet.org/files/brugada-huca/1.0.0/", always=(_TABLE, "LICENSE.txt"))
    num_records = 363

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """The diagnosis, the baseline's pattern, and sudden death."""
        return read_tasks("brugada_huca_tasks.toml")

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every person of the table."""
        tables = files_below(source, _TABLE)
        if not tables:
            raise mb.UserError(f"no {_TABLE} in {str(source)!r}; --from wants the folder that holds it, and files/")
        folder, unread = tables[0].parent.relative_to(source), UnreadCells()
        for row, place in read_table(tables[0], ("patient_id", *_VALUES)):
            patient = row["patient_id"]
            if not re.fullmatch(r"\d+", patient):
                raise mb.UserError(f"{place}: patient_id is {patient[:20]!r}; wanted a number")
            cells = {column: row[column].removesuffix(".0") for column in _VALUES}
            for column, cell in cells.items():
                if cell not in (*_VALUES[column], ""):
                    unread.count(column, cell)
            yield mb.RecordInfo(
                record_id=patient,
                patient_id=patient,
                statements=frozenset(f"{c}: {cell}" for c, cell in cells.items() if cell and cell in _VALUES[c]),
                path=(folder / "files" / patient / patient).as_posix(),
            )
        self.remarks = unread.remarks()

    def files(self, source: Path, info: mb.RecordInfo) -> Iterator[str]:
        """Yield the header and the signal files that it names."""
        return native_files(source, info.path or "")

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the record's signal."""
        return read_wfdb(source, info.path or "")


@mb.hookimpl
def melp_datasets() -> list[mb.Entry[mb.Dataset]]:
    """Offer Brugada-HUCA."""
    return [
        mb.Entry(
            name="brugada-huca",
            build=BrugadaHUCA,
            summary=f"{BrugadaHUCA.num_records} people examined for Brugada syndrome, at 100 Hz",
            source=BrugadaHUCA.homepage,
            license=BrugadaHUCA.licence,
        )
    ]
