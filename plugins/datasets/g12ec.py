"""Georgia 12-lead ECG Challenge Database (G12EC): 10,344 public records of 5 to 10 s at 500 Hz; no patients, no official folds.

Paper: Perez Alday et al., Classification of 12-lead ECGs: the PhysioNet/Computing in Cardiology Challenge 2020, Physiological
Measurement 41:124003 (2020). Also here: PTB-XL as the challenge packages it (HR00001 is ecg_id 1), with SNOMED CT for SCP.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import melp_bench as mb
from melp_plugins.datasets import snomed
from melp_plugins.datasets.cells import UnreadCells
from melp_plugins.datasets.challenge import challenge_download, challenge_infos, read_with_erratum


class G12EC(mb.Dataset):
    """Georgia 12-lead ECG Challenge Database."""

    version = "challenge-2021 1.0.3"
    licence = "CC BY 4.0"
    citation = (
        "Perez Alday et al., Physiol Meas 41:124003 (2020), doi:10.1088/1361-6579/abc960; PhysioNet doi:10.13026/34va-7q14"
    )
    homepage = "https://physionet.org/content/challenge-2021/1.0.3/"
    download = challenge_download("georgia")
    num_records = 10_344

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """The challenge's scored diagnoses, and every statement of at least 10 records."""
        return snomed.challenge_tasks("g12ec")

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every record with a header."""
        unread = UnreadCells()
        yield from challenge_infos(source, r"E\d+", "G12EC (E00001.hea)", unread)
        self.remarks = unread.remarks()

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the record's signal."""
        return read_with_erratum(source, info.path or "", erratum=4880.0)


class PTBXLChallenge(mb.Dataset):
    """PTB-XL in the challenge's packaging; the same recordings as `ptb-xl`, without patients and folds."""

    version = "challenge-2021 1.0.3"
    licence = "CC BY 4.0"
    citation = "Wagner et al., Scientific Data 7:154 (2020), doi:10.1038/s41597-020-0495-6; PhysioNet doi:10.13026/34va-7q14"
    homepage = "https://physionet.org/content/challenge-2021/1.0.3/"
    download = challenge_download("ptb-xl")
    num_records = 21_837

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """The challenge's scored diagnoses, and every statement of at least 10 records."""
        return snomed.challenge_tasks("ptb_xl")

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every record with a header."""
        unread = UnreadCells()
        yield from challenge_infos(source, r"HR\d+", "PTB-XL in the challenge's packaging (HR00001.hea)", unread)
        self.remarks = unread.remarks()

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the record's signal."""
        return read_with_erratum(source, info.path or "", erratum=200.0)


@mb.hookimpl
def melp_datasets() -> list[mb.Entry[mb.Dataset]]:
    """Offer G12EC and the challenge's PTB-XL."""
    return [
        mb.Entry(
            name="g12ec",
            build=G12EC,
            summary=f"{G12EC.num_records:,} records from Georgia with SNOMED CT statements",
            source=G12EC.homepage,
            license=G12EC.licence,
        ),
        mb.Entry(
            name="ptb-xl-challenge",
            build=PTBXLChallenge,
            summary=f"{PTBXLChallenge.num_records:,} records of PTB-XL as the challenge packages them, SNOMED CT statements",
            source=PTBXLChallenge.homepage,
            license=PTBXLChallenge.licence,
        ),
    ]
