"""Samples of CPSC2018 and Chapman-Shaoxing-Ningbo at 100 Hz, whose codes stand in a table beside the records.

Reads `index.csv` (record, age, sex, dx, signal): `dx` lists SNOMED CT codes, `signal` is the WFDB record's path without its
ending. A sample is not the dataset: its rows are never ranked with rows of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import melp_bench as mb
from melp_plugins.datasets import snomed
from melp_plugins.datasets.challenge import sex, years
from melp_plugins.datasets.cpsc2018 import CPSC2018
from melp_plugins.datasets.csn import CSN
from melp_plugins.datasets.tables import read_table
from melp_plugins.datasets.wfdb_files import read_wfdb

_COLUMNS = ("record", "age", "sex", "dx", "signal")


class IndexedSample(mb.Dataset):
    """Records of a larger dataset, by their index; folds are by SHA-256 of the record id, as there are no patients."""

    licence = "CC BY 4.0"

    def __init__(self, whole: type[mb.Dataset], tasks: Callable[[], Mapping[str, mb.Task]]) -> None:
        self.version, self.citation, self.homepage = f"sample of {whole.version}", whole.citation, whole.homepage
        self._tasks = tasks

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """The tasks of the dataset that it is a sample of."""
        return self._tasks()

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every record of the index."""
        for row, _ in read_table(source / "index.csv", _COLUMNS):
            yield mb.RecordInfo(
                record_id=row["record"],
                statements=frozenset(code.strip() for code in row["dx"].split(",") if code.strip()),
                age=years(row["age"]),
                sex=sex(row["sex"]),
                path=row["signal"],
            )

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the record's signal."""
        return read_wfdb(source, info.path or "")


def cpsc2018_sample() -> IndexedSample:
    """Return a sample of CPSC2018."""
    return IndexedSample(CPSC2018, snomed.cpsc_tasks)


def csn_sample() -> IndexedSample:
    """Return a sample of Chapman-Shaoxing-Ningbo."""
    return IndexedSample(CSN, snomed.csn_tasks)


@mb.hookimpl
def melp_datasets() -> list[mb.Entry[mb.Dataset]]:
    """Offer both samples."""
    return [
        mb.Entry(
            name="cpsc2018-sample",
            build=cpsc2018_sample,
            summary="records of CPSC2018 at 100 Hz by an index: a small target of transfer",
            source=CPSC2018.homepage,
            license=IndexedSample.licence,
        ),
        mb.Entry(
            name="csn-sample",
            build=csn_sample,
            summary="records of Chapman-Shaoxing-Ningbo at 100 Hz by an index: a small target of transfer",
            source=CSN.homepage,
            license=IndexedSample.licence,
        ),
    ]
