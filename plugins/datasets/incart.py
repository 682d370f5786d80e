"""INCART 1.0.0: 75 half hours of 32 patients, twelve leads at 257 Hz, every beat annotated; no official folds.

Data: St Petersburg Institute of Cardiological Technics 12-lead Arrhythmia Database, PhysioNet (2008). A record is read as
segments of `seconds` (10), each with the annotators' beats in it ("beat: V"), what the patient had ("diagnosis: acute mi"; the
header of 34 excerpts says nothing) and the excerpt's features as its report. A header's comments are three lines: "<age>: 65
<sex>: F <diagnoses> Acute MI", "patient 1", "PVCs, noise". The challenges of 2020 and 2021 have 74 of these excerpts: who
pretrains on those has seen these.

Positions of beats are the annotating program's, and were not corrected. Some leads are saturated throughout. Written from
descriptions of the files; none was at hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import melp_bench as mb
from melp_bench.records import stated
from melp_plugins.datasets.annotated_segments import checked_seconds, read_annotations, read_segment, segments
from melp_plugins.datasets.cells import UnreadCells, sex, years
from melp_plugins.datasets.challenge import headers
from melp_plugins.datasets.task_tables import read_tasks
from melp_plugins.datasets.wfdb_files import comments, native_files

_PERSON = re.compile(r"<age>:\s*(\S+)\s+<sex>:\s*(\S+)\s*(?:<diagnoses>:?\s*(.*))?")
_PATIENT = re.compile(r"patient\s+(\d+)", re.IGNORECASE)
_RHYTHM_MARK = "+"


class INCART(mb.Dataset):
    """St Petersburg INCART 12-lead Arrhythmia Database, in segments of `seconds`."""

    version = "1.0.0"
    licence = "ODC-By 1.0"
    citation = "St Petersburg INCART 12-lead Arrhythmia Database (2008), PhysioNet doi:10.13026/C2V88N"
    homepage = "https://physionet.org/content/incartdb/1.0.0/"
    download = mb.Download("https://physionet.org/files/incartdb/1.0.0/", always=("LICENSE.txt",))

    def __init__(self, *, seconds: float = 10.0) -> None:
        self.seconds = checked_seconds(seconds)

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """Beats that are not normal, and what the patient had."""
        return read_tasks("incart_tasks.toml")

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every segment of every record with a header and annotations."""
        unread = UnreadCells()
        for path in headers(source, r"I\d{2}", "INCART (I01.hea)"):
            lines = comments(path)
            person = next((found for line in lines if (found := _PERSON.match(line))), None)
            patient = next((found[1] for line in lines if (found := _PATIENT.fullmatch(line))), None)
            said = [line for line in lines if not (_PERSON.match(line) or _PATIENT.fullmatch(line))]
            age, gender, diagnoses = (person[n] or "" for n in (1, 2, 3)) if person else ("", "", "")
            stem = path.relative_to(source).with_suffix("").as_posix()
            features = " ".join(" ".join(said).rstrip(" ,.").split())
            for record, place, annotated in segments(source, stem, self.seconds, read_annotations(path.with_suffix(""))):
                yield mb.RecordInfo(
                    record_id=record,
                    patient_id=patient and f"patient{int(patient):02d}",
                    statements=frozenset(
                        [f"beat: {one.symbol}" for one in annotated if one.symbol not in ("", _RHYTHM_MARK)]
                        + [f"rhythm: {one.note.casefold()}" for one in annotated if one.symbol == _RHYTHM_MARK and one.note]
                        + [f"diagnosis: {text.strip().casefold()}" for text in diagnoses.split(",") if stated(text)]
                    ),
                    report=f"{features}." if features else "",
                    age=unread.read(years, "age", age),
                    sex=unread.read(sex, "sex", gender),
                    path=place,
                )
        self.remarks = unread.remarks()

    def files(self, source: Path, info: mb.RecordInfo) -> Iterator[str]:
        """Yield the header and the signal files that it names."""
        return native_files(source, (info.path or "").rpartition("#")[0])

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the segment's signal."""
        return read_segment(source, info.path or "", self.seconds)


@mb.hookimpl
def melp_datasets() -> list[mb.Entry[mb.Dataset]]:
    """Offer INCART."""
    return [
        mb.Entry(
            name="incart",
            build=INCART,
            summary="75 half hours of 32 patients at 257 Hz with annotated beats, in segments",
            source=INCART.homepage,
            license=INCART.licence,
        )
    ]
