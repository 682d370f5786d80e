"""MIMIC-IV-ECG Demo 0.1: 659 records of 10 s at 500 Hz of 92 patients, open to everyone, without reports or labels.

Data: Gow et al., MIMIC-IV-ECG Demo: Diagnostic Electrocardiogram Matched Subset Demo, PhysioNet (2022). Reads `record_list.csv`
(subject_id, study_id, path) and the WFDB files, whose lead order is I, II, III, aVR, aVF, aVL, V1-V6; leads go by name. It has
no task: it is for trying what reads MIMIC-IV-ECG, and for pretraining on signals. Its patients are MIMIC-IV's.

Written from PhysioNet's description and those of others who have the files; none was at hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import melp_bench as mb
from melp_bench.records import stated
from melp_plugins.datasets.tables import read_table
from melp_plugins.datasets.wfdb_files import read_wfdb

_RECORDS = "record_list.csv"


class MIMICIVECGDemo(mb.Dataset):
    """The open part of MIMIC-IV-ECG."""

    version = "0.1"
    licence = "ODbL 1.0"
    citation = "Gow et al., MIMIC-IV-ECG Demo (2022), PhysioNet doi:10.13026/4eqn-kt76"
    homepage = "https://physionet.org/content/mimic-iv-ecg-demo/0.1/"
    download = mb.Download("https://physionet.org/files/mimic-iv-ecg-demo/0.1/", always=(_RECORDS, "LICENSE.txt"))
    num_records = 659

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """None: the source says nothing of its records."""
        return {}

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every record of the list."""
        for row, place in read_table(source / _RECORDS, ("subject_id", "study_id", "path")):
            if not (stated(row["subject_id"]) and stated(row["study_id"])):
                raise mb.UserError(f"{place} lacks subject_id or study_id; wanted a whole row of the published table")
            yield mb.RecordInfo(record_id=row["study_id"], patient_id=row["subject_id"], path=row["path"])

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the record's signal."""
        if not info.path:
            raise mb.BadRecord("missing-file", "the list names no file")
        return read_wfdb(source, info.path)


@mb.hookimpl
def melp_datasets() -> list[mb.Entry[mb.Dataset]]:
    """Offer the demo of MIMIC-IV-ECG."""
    return [
        mb.Entry(
            name="mimic-iv-ecg-demo",
            build=MIMICIVECGDemo,
            summary=f"{MIMICIVECGDemo.num_records} open records of MIMIC-IV without reports or labels",
            source=MIMICIVECGDemo.homepage,
            license=MIMICIVECGDemo.licence,
        )
    ]
