"""Norwegian Endurance Athlete ECG Database 1.0.0: 28 records of 10 s at 500 Hz, an elite athlete each; no official folds.

Data: Singstad, Norwegian Endurance Athlete ECG Database, PhysioNet (2022). Reads WFDB files `ath_001`; a header's comments are
"SL12:" of the electrocardiograph's program and "C:" of a cardiologist. Statements are the cardiologist's, between
commas, and the program's as "sl12: STATEMENT"; the report is the cardiologist's. The data was published to show where the
program errs: its statements are in no task.

Others found that each lead was stretched to the full range of 16 bits before it was published: amplitudes mean nothing, leads
cannot be compared, and the limb leads miss their identities. Such a record is flagged `stretched-leads`. 28 records are for
cross-validation, and for little more than a look. Written from descriptions; no file of the release was at hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

import melp_bench as mb
from melp_plugins.datasets.challenge import header_fields, headers
from melp_plugins.datasets.task_tables import read_tasks
from melp_plugins.datasets.wfdb_files import native_files, read_wfdb

_SAME_SPAN = 0.001


class NorwegianAthletes(mb.Dataset):
    """Resting ECGs of Norwegian endurance athletes."""

    version = "1.0.0"
    licence = "CC BY 4.0"
    citation = "Singstad, Norwegian Endurance Athlete ECG Database (2022), PhysioNet doi:10.13026/qpjf-gk87"
    homepage = "https://physionet.org/content/norwegian-athlete-ecg/1.0.0/"
    download = mb.Download("https://physionet.org/files/norwegian-athlete-ecg/1.0.0/", always=("LICENSE.txt",))
    num_records = 28

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """Rhythm and findings, as the cardiologist reads them."""
        return read_tasks("norwegian_athletes_tasks.toml")

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every record with a header."""
        for path in headers(source, r"ath_\d{3}", "the Norwegian athletes (ath_001.hea)"):
            fields = header_fields(path)
            report = " ".join(fields.get("c", "").split())
            # the program goes on in lower case after a comma of its own, "ST elevation, consider early repolarization"
            machine = re.split(r",\s*(?=[A-Z*])", fields.get("sl12", ""))
            yield mb.RecordInfo(
                record_id=path.stem,
                statements=frozenset([*_plain(report.split(",")), *(f"sl12: {text}" for text in _plain(machine))]),
                report=f"{report.rstrip('.')}." if report else "",
                path=path.relative_to(source).with_suffix("").as_posix(),
            )

    def files(self, source: Path, info: mb.RecordInfo) -> Iterator[str]:
        """Yield the header and the signal files that it names."""
        return native_files(source, info.path or "")

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the record's signal, flagged where every lead has the same span."""
        signal = read_wfdb(source, info.path or "")
        spans = np.nanmax(signal.millivolts, axis=1) - np.nanmin(signal.millivolts, axis=1)
        if np.ptp(spans) > _SAME_SPAN * spans.max():
            return signal
        return replace(signal, quality_flags=(*signal.quality_flags, "stretched-leads"))


def _plain(texts: list[str]) -> Iterator[str]:
    """Yield statements in lower case, without asterisks and blanks around them."""
    for text in texts:
        if plain := " ".join(text.replace("*", " ").split()).strip(" ,.").casefold():
            yield plain


@mb.hookimpl
def melp_datasets() -> list[mb.Entry[mb.Dataset]]:
    """Offer the Norwegian athletes."""
    return [
        mb.Entry(
            name="norwegian-athletes",
            build=NorwegianAthletes,
            summary=f"{NorwegianAthletes.num_records} elite endurance athletes, read by a program and a cardiologist",
            source=NorwegianAthletes.homepage,
            license=NorwegianAthletes.licence,
        )
    ]
