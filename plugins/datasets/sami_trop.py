"""SaMi-Trop: 1,631 exams of patients with chronic Chagas cardiomyopathy, a patient each, 400 Hz, 7 or 10 s; no official folds.

Paper: Cardoso et al., Longitudinal study of patients with chronic Chagas cardiomyopathy in Brazil (SaMi-Trop project): a
cohort profile, BMJ Open 6:e011181 (2016). Reads the WFDB conversion of the PhysioNet Challenge 2025, and `exams.csv` with
`exams.hdf5` (`tracings`, a row per row of the table). Death within the follow-up is a statement where the table has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import melp_bench as mb
from melp_bench.records import stated
from melp_plugins.datasets import hdf5_tracings
from melp_plugins.datasets.cells import UnreadCells, truth, years
from melp_plugins.datasets.code import CHAGAS, chagas_task, checked_unit, wfdb_infos
from melp_plugins.datasets.folders import files_below
from melp_plugins.datasets.tables import read_table
from melp_plugins.datasets.wfdb_files import read_wfdb


class SaMiTrop(mb.Dataset):
    """SaMi-Trop; `unit` is that of the HDF5 file: mV, 1e-4V, uV, V, or auto to measure it."""

    version = "1.0.0"
    licence = "CC BY 4.0"
    citation = "Cardoso et al., BMJ Open 6:e011181 (2016), doi:10.1136/bmjopen-2016-011181; Zenodo doi:10.5281/zenodo.4905618"
    homepage = "https://zenodo.org/records/4905618"
    download = mb.Download("https://zenodo.org/api/records/4905618", listing="zenodo", always=("exams.csv",), unpack=True)
    num_records = 1_631

    def __init__(self, *, unit: str = "auto") -> None:
        self.unit = checked_unit(unit)

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """Chagas disease, which all have: of use beside a dataset of others."""
        return {"chagas": chagas_task()}

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every exam of the table, or of the WFDB headers where there is no table."""
        unread = UnreadCells()
        tables = files_below(source, "exams.csv")
        if not tables:
            found = list(wfdb_infos(source, "SaMi-Trop", unread))
            if not found:
                raise mb.UserError(f"no exam of SaMi-Trop in {str(source)!r}; wanted exams.csv or headers such as 294669.hea")
            yield from found
            self.remarks = unread.remarks()
            return
        rows = list(read_table(tables[0], ("exam_id", "age", "is_male")))
        file = tables[0].parent / "exams.hdf5"
        if file.is_file() and hdf5_tracings.num_rows(file) != len(rows):
            raise mb.UserError(
                f"{tables[0].name!r} has {len(rows)} rows, {file.name!r} another number; a row must be a tracing"
            )
        for number, (row, place) in enumerate(rows):
            died = truth(row.get("death", ""), "death", place)
            yield mb.RecordInfo(
                record_id=row["exam_id"],
                statements=frozenset({CHAGAS, "death"} if died else {CHAGAS}),
                age=unread.read(years, "age", row["age"]),
                sex=("M" if truth(row["is_male"], "is_male", place) else "F") if stated(row["is_male"]) else None,
                path=f"{file.relative_to(source).as_posix()}#{number}",
            )
        self.remarks = unread.remarks()

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the exam's signal."""
        file, number, row = (info.path or "").rpartition("#")
        if not number:
            return read_wfdb(source, info.path or "")
        return hdf5_tracings.read_tracing(source / file, int(row), unit=self.unit)


@mb.hookimpl
def melp_datasets() -> list[mb.Entry[mb.Dataset]]:
    """Offer SaMi-Trop."""
    return [
        mb.Entry(
            name="sami-trop",
            build=SaMiTrop,
            summary=f"{SaMiTrop.num_records:,} exams of patients with Chagas cardiomyopathy",
            source=SaMiTrop.homepage,
            license=SaMiTrop.licence,
        )
    ]
