"""SPH: 25,770 records of 10 to 60 s at 500 Hz of 24,666 patients of Shandong Provincial Hospital; no official folds.

Paper: Liu et al., A large-scale multi-label 12-lead electrocardiogram database with standardized diagnostic statements,
Scientific Data 9:272 (2022). Reads `metadata.csv` (ECG_ID, AHA_Code, Patient_ID, Age, Sex, N, Date) and, beside it,
`records/A00001.h5`: one dataset `ecg` of (12, N) float16 in millivolts, leads in the usual order. `AHA_Code` is a list of
statements parted by ";", each a primary code with modifiers joined by "+": "60+310;147". Nothing ranks them.

Written from the paper and from descriptions of the files; no file of the release was at hand. One deposit of it says CC0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

import melp_bench as mb
from melp_bench.records import stated
from melp_plugins.datasets import aha
from melp_plugins.datasets.cells import UnreadCells, sex, years
from melp_plugins.datasets.folders import files_below
from melp_plugins.datasets.hdf5_files import opened, own_dataset
from melp_plugins.datasets.tables import read_table

_COLUMNS = ("ECG_ID", "AHA_Code", "Patient_ID", "Age", "Sex", "N")
_RATE_HZ = 500.0
_MAX_SAMPLES = 1_000_000


class SPH(mb.Dataset):
    """Shandong Provincial Hospital's database."""

    version = "1"
    licence = "CC BY 4.0"
    citation = (
        "Liu et al., Scientific Data 9:272 (2022), doi:10.1038/s41597-022-01403-5; figshare doi:10.6084/m9.figshare.c.5779802"
    )
    homepage = "https://doi.org/10.6084/m9.figshare.c.5779802"
    download = mb.Download(
        "https://api.figshare.com/v2/collections/5779802/articles?page_size=100",
        listing="figshare",
        always=("metadata.csv", "code.csv"),
        unpack=True,
    )
    num_records = 25_770

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """The statements by category, and all of them."""
        return aha.aha_tasks()

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every record of the table."""
        tables = files_below(source, "metadata.csv")
        if not tables:
            raise mb.UserError(f"no metadata.csv in {str(source)!r}; --from wants the folder that holds it, and records/")
        folder, unread = tables[0].parent.relative_to(source), UnreadCells()
        for row, place in read_table(tables[0], _COLUMNS):
            record = row["ECG_ID"]
            if not re.fullmatch(r"\w+", record):
                raise mb.UserError(f"{place}: ECG_ID is {record[:20]!r}; wanted a name such as A00001")
            yield mb.RecordInfo(
                record_id=record,
                patient_id=row["Patient_ID"] or None,
                statements=frozenset(_statements(row["AHA_Code"], unread)),
                age=unread.read(years, "Age", row["Age"]),
                sex=unread.read(sex, "Sex", row["Sex"]),
                path=(folder / "records" / f"{record}.h5").as_posix(),
            )
        self.remarks = unread.remarks()

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the record's signal."""
        path = source / (info.path or "")
        with opened(path) as file:
            samples = own_dataset(file, "ecg")
            if samples.ndim != 2 or samples.shape[0] != len(mb.LEADS) or not 0 < samples.shape[1] <= _MAX_SAMPLES:
                raise mb.BadRecord("wrong-shape", f"{path.name!r}: ecg is of {samples.shape}; wanted (12, samples)")
            millivolts = np.asarray(samples[:], dtype=np.float32)  # (L, T)
        return mb.Signal(millivolts, _RATE_HZ)


def _statements(cell: str, unread: UnreadCells) -> Iterator[str]:
    """Yield the statements of a cell such as "60+310;147"; codes that the recommendations' table has not are counted."""
    for statement in stated(cell).split(";"):
        primary, *modifiers = (part.strip() for part in statement.split("+"))
        if primary in aha.primary_statements() and all(re.fullmatch(r"\d{3}", modifier) for modifier in modifiers):
            yield from aha.with_modifiers(primary, modifiers)
        elif primary:
            unread.count("AHA_Code", statement)


@mb.hookimpl
def melp_datasets() -> list[mb.Entry[mb.Dataset]]:
    """Offer SPH."""
    return [
        mb.Entry(
            name="sph",
            build=SPH,
            summary=f"{SPH.num_records:,} records of Shandong Provincial Hospital with AHA statements",
            source=SPH.homepage,
            license=SPH.licence,
        )
    ]
