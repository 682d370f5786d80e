"""Samples of CPSC2018 and Chapman-Shaoxing-Ningbo at 100 Hz, whose codes stand in a table beside the records.

Reads `index.csv` (record, age, sex, dx, signal): `dx` lists SNOMED CT codes or, of CPSC2018, the names that the challenge of
2020 first gave its classes (I-AVB, RBBB ...); `signal` is the WFDB record's path without its ending. A sample is not the
dataset: its rows are never ranked with rows of the whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import melp_bench as mb
from melp_plugins.datasets import snomed
from melp_plugins.datasets.cells import sex, years
from melp_plugins.datasets.cpsc2018 import CPSC2018
from melp_plugins.datasets.csn import CSN
from melp_plugins.datasets.tables import read_table
from melp_plugins.datasets.wfdb_files import read_wfdb

_COLUMNS = ("record", "age", "sex", "dx", "signal")
_FIRST_NAMES = {
    "Normal": "NORM", "AF": "AFIB", "I-AVB": "1AVB", "LBBB": "CLBBB", "RBBB": "CRBBB", "PAC": "PAC", "PVC": "VPC",
    "STD": "STD", "STE": "STE",
}  # fmt: skip
"""The names of the first packaging of CPSC2018 by the challenge of 2020, and those of the literature."""


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
        for row, place in read_table(source / "index.csv", _COLUMNS):
            yield mb.RecordInfo(
                record_id=row["record"],
                statements=frozenset(_code(cell.strip(), place) for cell in row["dx"].split(",") if cell.strip()),
                age=years(row["age"]),
                sex=sex(row["sex"]),
                path=row["signal"],
            )

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the record's signal."""
        return read_wfdb(source, info.path or "")


def _code(cell: str, place: str) -> str:
    """Return the SNOMED CT code that a cell of `dx` says, as a code or by a name of CPSC2018.

    Raises:
        UserError: it is neither.
    """
    code = snomed.CPSC_CLASSES[_FIRST_NAMES[cell]] if cell in _FIRST_NAMES else cell
    if not re.fullmatch(r"\d{4,18}", code):
        raise mb.UserError(f"{place}: dx has {cell[:40]!r}; wanted a SNOMED CT code or one of {', '.join(_FIRST_NAMES)}")
    return code


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
