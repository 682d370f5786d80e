"""Chapman-Shaoxing-Ningbo (CSN): 45,152 records of 10 s at 500 Hz with SNOMED CT statements; no patients, no official folds.

Papers: Zheng et al., A 12-lead electrocardiogram database for arrhythmia research covering more than 10,000 patients,
Scientific Data 7:48 (2020); Zheng et al., Optimal multi-stage arrhythmia classification approach, Scientific Reports 10:2898
(2020). Reads PhysioNet's `WFDBRecords/` as well as the challenge's folders `chapman_shaoxing` and `ningbo`. Statements are the
codes of the header, each compared as a whole; the literature's label files compare acronyms as substrings, which makes ST of
STTC and SA of LVQRSAL.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import melp_bench as mb
from melp_plugins.datasets import snomed
from melp_plugins.datasets.cells import UnreadCells
from melp_plugins.datasets.challenge import challenge_infos
from melp_plugins.datasets.wfdb_files import read_wfdb


class CSN(mb.Dataset):
    """A large-scale 12-lead electrocardiogram database for arrhythmia study."""

    version = "1.0.0"
    licence = "CC BY 4.0"
    citation = (
        "Zheng et al., Scientific Data 7:48 (2020), doi:10.1038/s41597-020-0386-x; "
        "Zheng et al., Scientific Reports 10:2898 (2020), doi:10.1038/s41598-020-59821-7; PhysioNet doi:10.13026/wgex-er52"
    )
    homepage = "https://physionet.org/content/ecg-arrhythmia/1.0.0/"
    download = mb.Download("https://physionet.org/files/ecg-arrhythmia/1.0.0/", always=("LICENSE.txt",))
    num_records = 45_152

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """The literature's 38 classes, and every statement of at least 10 records."""
        return snomed.csn_tasks()

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every record with a header."""
        unread = UnreadCells()
        yield from challenge_infos(source, r"JS\d+", "Chapman-Shaoxing-Ningbo (JS00001.hea)", unread)
        self.remarks = unread.remarks()

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the record's signal."""
        return read_wfdb(source, info.path or "")


@mb.hookimpl
def melp_datasets() -> list[mb.Entry[mb.Dataset]]:
    """Offer Chapman-Shaoxing-Ningbo."""
    return [
        mb.Entry(
            name="csn",
            build=CSN,
            summary=f"{CSN.num_records:,} records of Chapman, Shaoxing and Ningbo with SNOMED CT statements",
            source=CSN.homepage,
            license=CSN.licence,
        )
    ]
