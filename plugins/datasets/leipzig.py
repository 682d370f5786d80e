"""Leipzig Heart Center 1.0.0: 39 electrophysiological studies, twelve leads at 977 Hz, every beat annotated; no official folds.

Data: Leipzig Heart Center ECG-Database: Arrhythmias in Children and Patients with Congenital Heart Disease, PhysioNet (2025).
29 children with supraventricular tachycardia and 10 adults with a repaired tetralogy of Fallot, a record each of a minute to
two and a half hours. Reads `children-subject-info.csv` and `adults-subject-info.csv` (file_name, gender, age, diagnosis) and
the WFDB files with their annotations. A record is read as segments of `seconds` (10), each with the beats in it ("beat: V",
"beat: n-prex" of a preexcited one, "tachycardia: avnrt"). What the catheters measured is left out.

Others found that some leads are clipped at the amplifier's end and one age is ".14.3" in the release, which is read as 14.3.
Written from PhysioNet's README and others' descriptions; no other file was at hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import melp_bench as mb
from melp_bench.records import stated
from melp_plugins.datasets.annotated_segments import Annotation, checked_seconds, read_annotations, read_segment, segments
from melp_plugins.datasets.cells import UnreadCells, sex, years
from melp_plugins.datasets.challenge import headers
from melp_plugins.datasets.folders import files_below
from melp_plugins.datasets.tables import read_table
from melp_plugins.datasets.task_tables import read_tasks
from melp_plugins.datasets.wfdb_files import native_files

_TABLES = ("children-subject-info.csv", "adults-subject-info.csv")
_COLUMNS = ("file_name", "gender", "age", "diagnosis")
_TACHYCARDIA, _RHYTHM_MARK, _NO_BEATS = "X", "+", ("", "~", "Q")


class Leipzig(mb.Dataset):
    """Leipzig Heart Center ECG-Database, in segments of `seconds`."""

    version = "1.0.0"
    licence = "ODC-By 1.0"
    citation = "Leipzig Heart Center ECG-Database (2025), PhysioNet doi:10.13026/7a4j-vn37"
    homepage = "https://physionet.org/content/leipzig-heart-center-ecg/1.0.0/"
    download = mb.Download("https://physionet.org/files/leipzig-heart-center-ecg/1.0.0/", always=(*_TABLES, "LICENSE.txt"))

    def __init__(self, *, seconds: float = 10.0) -> None:
        self.seconds = checked_seconds(seconds)

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """Rhythm and beats of a segment, and what the patient was examined for."""
        return read_tasks("leipzig_tasks.toml")

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every segment of every record with a header and annotations."""
        unread, people = UnreadCells(), _people(source)
        for path in headers(source, r"x\d{3,4}", "the Leipzig Heart Center (x001.hea)"):
            person = people.get(path.stem, {})
            diagnosis = stated(person.get("diagnosis", "")).casefold()
            stem = path.relative_to(source).with_suffix("").as_posix()
            for record, place, annotated in segments(source, stem, self.seconds, read_annotations(path.with_suffix(""))):
                yield mb.RecordInfo(
                    record_id=record,
                    patient_id=path.stem,
                    statements=frozenset(_statements(annotated)) | ({f"diagnosis: {diagnosis}"} if diagnosis else set()),
                    age=unread.read(years, "age", re.sub(r"^\.(?=\d+\.)", "", person.get("age", ""))),
                    sex=unread.read(sex, "gender", person.get("gender", "")),
                    path=place,
                )
        self.remarks = unread.remarks()

    def files(self, source: Path, info: mb.RecordInfo) -> Iterator[str]:
        """Yield the header and the signal files that it names."""
        return native_files(source, (info.path or "").rpartition("#")[0])

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the segment's signal."""
        return read_segment(source, info.path or "", self.seconds)


def _people(source: Path) -> dict[str, dict[str, str]]:
    """Return the rows of the tables by record.

    Raises:
        UserError: a table is not there.
    """
    people: dict[str, dict[str, str]] = {}
    for name in _TABLES:
        tables = files_below(source, name)
        if not tables:
            raise mb.UserError(f"no {name} in {str(source)!r}; --from wants the folder that holds it beside the records")
        people |= {row["file_name"]: row for row, _ in read_table(tables[0], _COLUMNS)}
    return people


def _statements(annotated: list[Annotation]) -> Iterator[str]:
    """Yield what the annotations of a segment say; "AVNRT+BII" is a tachycardia with a block."""
    for one in annotated:
        note = one.note.casefold()
        if one.symbol == _TACHYCARDIA:
            yield f"tachycardia: {note.partition('+')[0]}"
        elif one.symbol == _RHYTHM_MARK:
            yield f"rhythm: {note}"
        elif one.symbol not in _NO_BEATS:
            yield f"beat: {one.symbol}"
            if note:
                yield f"beat: {note}"


@mb.hookimpl
def melp_datasets() -> list[mb.Entry[mb.Dataset]]:
    """Offer the Leipzig Heart Center's database."""
    return [
        mb.Entry(
            name="leipzig",
            build=Leipzig,
            summary="39 children and adults in electrophysiological studies at 977 Hz with annotated beats, in segments",
            source=Leipzig.homepage,
            license=Leipzig.licence,
        )
    ]
