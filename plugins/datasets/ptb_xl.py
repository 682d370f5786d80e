"""PTB-XL 1.0.3: 21,799 twelve-lead records of 10 s with SCP statements, German reports and official folds.

Paper: Wagner et al., PTB-XL, a large publicly available electrocardiography dataset, Scientific Data 7:154 (2020).
Reads `ptbxl_database.csv` and the WFDB files it names; 69 of its records are enough to try it.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import melp_bench as mb
from melp_bench.records import stated
from melp_plugins.datasets import scp
from melp_plugins.datasets.cells import UnreadCells
from melp_plugins.datasets.tables import read_table
from melp_plugins.datasets.wfdb_files import read_wfdb

_TABLE = "ptbxl_database.csv"
_FILES = {500: "filename_hr", 100: "filename_lr"}
_COLUMNS = ("ecg_id", "patient_id", "age", "sex", "report", "scp_codes", "strat_fold")
_SEXES = {"0": "M", "1": "F"}
_OLDEST = 300.0  # what the table writes for patients older than 89, to hide their age
_OLDEST_YEARS = 90.0
_RELEASES = {21_837: "1.0.1", 21_801: "1.0.2", 21_799: "1.0.3"}
"""Rows of the table by release, as PhysioNet states them."""


class PTBXL(mb.Dataset):
    """PTB-XL; `rate` chooses the 500 Hz or the 100 Hz files."""

    version = "1.0.3"
    licence = "CC BY 4.0"
    citation = "Wagner et al., Scientific Data 7:154 (2020), doi:10.1038/s41597-020-0495-6; PhysioNet doi:10.13026/kfzx-aw45"
    homepage = "https://physionet.org/content/ptb-xl/1.0.3/"
    download = mb.Download("https://physionet.org/files/ptb-xl/1.0.3/", always=(_TABLE, "scp_statements.csv", "LICENSE.txt"))
    has_official_folds = True
    num_records = 21_799

    def __init__(self, *, rate: int = 500) -> None:
        if rate not in _FILES:
            raise mb.UserError(f"ptb-xl has no files at rate={rate!r}; wanted one of {', '.join(map(str, _FILES))}")
        self.rate = rate

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """Super, sub, form and rhythm by the published aggregation, and all statements."""
        return scp.tasks()

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every record of the table, whether its file is here or not."""
        unread, count = UnreadCells(), 0
        for row, place in read_table(source / _TABLE, (*_COLUMNS, _FILES[self.rate])):
            count += 1
            yield self._info(row, place, unread)
        self.release = _release(source, count)
        told = [f"these files are PTB-XL {self.release}; {self.version} leaves records out and corrects statements of others"]
        self.remarks = [*(told if self.release not in ("", self.version) else []), *unread.remarks()]

    def _info(self, row: Mapping[str, str], place: str, unread: UnreadCells) -> mb.RecordInfo:
        cells = {name: stated(row[name]) for name in (*_COLUMNS, _FILES[self.rate])}
        age = _number(cells["age"], "age", place)
        fold = _number(cells["strat_fold"], "strat_fold", place)
        patient = _number(cells["patient_id"], "patient_id", place)
        if not cells["ecg_id"] or fold is None:
            raise mb.UserError(f"{place} lacks ecg_id or strat_fold; wanted a whole row of the published table")
        return mb.RecordInfo(
            record_id=cells["ecg_id"],
            patient_id=None if patient is None else f"{patient:.0f}",
            statements=frozenset(_codes(cells["scp_codes"], place)),
            report=cells["report"],
            age=_OLDEST_YEARS if age == _OLDEST else age,
            sex=unread.read(_sex, "sex", cells["sex"]),
            fold=int(fold),
            path=cells[_FILES[self.rate]].removesuffix(".hea").removesuffix(".dat"),
        )

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the record's signal."""
        if not info.path:
            raise mb.BadRecord("missing-file", f"the table names no {self.rate} Hz file")
        return read_wfdb(source, info.path)


def ptb_xl_sample() -> PTBXL:
    """Return PTB-XL's 100 Hz files, of which some are enough: a store of its own beside one of the whole."""
    return PTBXL(rate=100)


def _release(source: Path, num_records: int) -> str:
    """Return the release that the table is of by its length, or the change logs beside it; "" where neither says.

    Each release has the logs of those before it; a part of a release has another length and may come without the logs.
    """
    logs = ("1.0.3", "1.0.2")
    told = [release for release in logs if (source / f"ptbxl_v{release.replace('.', '')}_changelog.txt").is_file()]
    return _RELEASES.get(num_records, told[0] if told else "")


def _sex(cell: str) -> str | None:
    return _SEXES.get(cell.removesuffix(".0"))


def _number(cell: str, column: str, place: str) -> float | None:
    """Return a cell as a number, None where it is empty."""
    try:
        value = float(cell) if cell else None
    except ValueError:
        value = math.nan
    if value is not None and not math.isfinite(value):
        raise mb.UserError(f"{place}: {column} is {cell[:40]!r}; wanted a number")
    return value


def _codes(cell: str, place: str) -> list[str]:
    """Return the statements of a cell such as "{'NORM': 100.0, 'SR': 0.0}", of whatever likelihood."""
    try:
        codes = ast.literal_eval(cell) if len(cell) < 10_000 else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        codes = None
    if not isinstance(codes, dict) or not all(isinstance(code, str) for code in codes):
        raise mb.UserError(f"{place}: scp_codes is {cell[:40]!r}; wanted statements with likelihoods, {{'NORM': 100.0}}")
    return list(codes)


@mb.hookimpl
def melp_datasets() -> list[mb.Entry[mb.Dataset]]:
    """Offer PTB-XL."""
    return [
        mb.Entry(
            name="ptb-xl",
            build=PTBXL,
            summary="21,799 records with SCP statements, German reports, official folds",
            source=PTBXL.homepage,
            license=PTBXL.licence,
        ),
        mb.Entry(
            name="ptb-xl-sample",
            build=ptb_xl_sample,
            summary="some of PTB-XL's records at 100 Hz with their official folds: a sample, never ranked with the whole",
            source=PTBXL.homepage,
            license=PTBXL.licence,
        ),
    ]
