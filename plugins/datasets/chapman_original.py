"""Chapman-Shaoxing as it was first published: 10,646 records of 10 s at 500 Hz in CSV, a patient each; no official folds.

Paper: Zheng et al., A 12-lead electrocardiogram database for arrhythmia research covering more than 10,000 patients, Scientific
Data 7:48 (2020). Reads `Diagnostics.xlsx`, or the same table as `Diagnostics.csv` (FileName, Rhythm, Beat, PatientAge, Gender
and measurements), and `ECGData/NAME.csv` in microvolts, a lead per column under a header, or with `denoised`
`ECGDataDenoised/NAME.csv`, which has none. `Rhythm` is one acronym, `Beat` several or NONE. Statements are the SNOMED CT codes
of `csn`, so that classes have the same names; the same hearts are in `csn`, too.

An acronym that `csn`'s table has not is a statement "condition: ACRONYM". Written from the paper and from descriptions; no file
of the release was at hand. The deposit says CC0, the paper CC BY 4.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np

import melp_bench as mb
from melp_bench.records import stated
from melp_plugins.datasets import snomed
from melp_plugins.datasets.cells import UnreadCells, sex, years
from melp_plugins.datasets.folders import files_below
from melp_plugins.datasets.lead_tables import read_columns
from melp_plugins.datasets.tables import read_table
from melp_plugins.datasets.task_tables import read_tasks
from melp_plugins.datasets.workbooks import read_workbook

_COLUMNS = ("FileName", "Rhythm", "Beat", "PatientAge", "Gender")
_MEASURED = {
    "VentricularRate": "ventricular_rate", "AtrialRate": "atrial_rate", "QRSDuration": "qrs_duration",
    "QTInterval": "qt_interval", "QTCorrected": "qt_corrected", "RAxis": "r_axis", "TAxis": "t_axis",
}  # fmt: skip
_RATE_HZ = 500.0
_MICROVOLT = np.float32(0.001)


class ChapmanOriginal(mb.Dataset):
    """Chapman-Shaoxing's first release; with `denoised`, the authors' filtered signals."""

    version = "2"
    licence = "CC0 1.0"
    citation = (
        "Zheng et al., Scientific Data 7:48 (2020), doi:10.1038/s41597-020-0386-x; figshare doi:10.6084/m9.figshare.c.4560497"
    )
    homepage = "https://doi.org/10.6084/m9.figshare.c.4560497"
    download = mb.Download(
        "https://api.figshare.com/v2/collections/4560497/articles?page_size=100",
        listing="figshare",
        always=("Diagnostics.xlsx", "ConditionNames.xlsx", "RhythmNames.xlsx"),
        unpack=True,
    )
    num_records = 10_646

    def __init__(self, *, denoised: bool = False) -> None:
        self.folder = "ECGDataDenoised" if denoised else "ECGData"

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """Four groups of rhythms, and the tasks of `csn`."""
        return {**read_tasks("chapman_original_tasks.toml"), **snomed.csn_tasks()}

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every record of the table."""
        tables = files_below(source, "Diagnostics.csv") or files_below(source, "Diagnostics.xlsx")
        if not tables:
            raise mb.UserError(
                f"no Diagnostics.xlsx or Diagnostics.csv in {str(source)!r}; --from wants the folder that holds it"
            )
        read = read_workbook if tables[0].suffix == ".xlsx" else read_table
        folder, unread = tables[0].parent.relative_to(source), UnreadCells()
        for row, place in read(tables[0], _COLUMNS):
            name = row["FileName"].removesuffix(".csv")
            if not re.fullmatch(r"[\w.-]+", name):
                raise mb.UserError(f"{place}: FileName is {name[:40]!r}; wanted a name such as MUSE_20180113_171327_27000")
            acronyms = [row["Rhythm"], *(row["Beat"].split() if stated(row["Beat"]) else [])]
            yield mb.RecordInfo(
                record_id=name,
                statements=frozenset(_statement(acronym, unread) for acronym in acronyms if stated(acronym)),
                age=unread.read(years, "PatientAge", row["PatientAge"]),
                sex=unread.read(sex, "Gender", row["Gender"]),
                path=(folder / self.folder / f"{name}.csv").as_posix(),
                measurements={short: float(row[c]) for c, short in _MEASURED.items() if _is_number(row.get(c, ""))},
            )
        self.remarks = unread.remarks()

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the record's signal."""
        microvolts, leads = read_columns(source / (info.path or ""))
        return mb.Signal(microvolts * _MICROVOLT, _RATE_HZ, leads)


@cache
def _codes() -> dict[str, str]:
    """Return the codes of the source's acronyms."""
    return {acronym: s.code for s in snomed.statements().values() for acronym in s.conditions}


def _statement(acronym: str, unread: UnreadCells) -> str:
    """Return an acronym's code, or itself where there is none, which is counted."""
    if acronym in _codes():
        return _codes()[acronym]
    unread.count("Rhythm or Beat", acronym)
    return f"condition: {acronym}"


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", cell) is not None


@mb.hookimpl
def melp_datasets() -> list[mb.Entry[mb.Dataset]]:
    """Offer Chapman-Shaoxing's first release."""
    return [
        mb.Entry(
            name="chapman-original",
            build=ChapmanOriginal,
            summary=f"{ChapmanOriginal.num_records:,} records in CSV as Chapman-Shaoxing was first published",
            source=ChapmanOriginal.homepage,
            license=ChapmanOriginal.licence,
        )
    ]
