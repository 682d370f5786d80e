"""CinC Challenge 2011, set a: 1,000 twelve-lead records of 10 s from mobile telephones, and whether they can be interpreted.

Paper: Silva, Moody and Celi, Improving the quality of ECGs collected using mobile phones: the PhysioNet/Computing in Cardiology
Challenge 2011, Computing in Cardiology 38:273 (2011). Volunteers and experts graded each record; `RECORDS-acceptable` and
`RECORDS-unacceptable` list the two groups, and what is in neither was graded too differently. There are no patients and no
official folds. A sample at 100 Hz has `index.csv` (record, quality, signal, duplicate_of) in the place of the lists; equal
records then count as one patient.

Two things to know of the task `quality`. Records all of whose leads are constant, a third of the unacceptable ones, are
quarantined when a store is prepared, since no encoder can read them: what is asked is the harder rest. And a circulating
packaging has aVL and aVF under each other's names; where the limb leads' identities (Einthoven, Goldberger) hold for the
exchanged names and not for the told ones, `signal` reads them exchanged, and the record says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

import melp_bench as mb
from melp_bench.lead_identity import identity_error
from melp_bench.leads import LIMB
from melp_plugins.datasets.cells import sex, years
from melp_plugins.datasets.folders import files_below
from melp_plugins.datasets.tables import read_table
from melp_plugins.datasets.task_tables import read_tasks
from melp_plugins.datasets.wfdb_files import comments, native_files, read_wfdb

GRADES = ("acceptable", "unacceptable")
_INDEX = ("record", "quality", "signal", "duplicate_of")
_AGE, _SEX = re.compile(r"\bage\W+(\d+)", re.IGNORECASE), re.compile(r"\b(?:sex|gender)\W+([a-z]+)", re.IGNORECASE)
KEPT, BROKEN = 0.1, 0.3
"""Misses of the limb leads' identities below which they hold, and above which they do not: samples are rounded to 5 uV, which
alone makes up to 0.05 in small records; under the wrong names all miss by 0.6 or more."""


class SignalQuality(mb.Dataset):
    """Records that were graded acceptable or unacceptable for interpretation."""

    version = "1.0.0"
    licence = "ODC-By 1.0"
    citation = "Silva, Moody and Celi, Computing in Cardiology 38:273 (2011), PhysioNet challenge-2011"
    homepage = "https://physionet.org/content/challenge-2011/1.0.0/"
    download: mb.Download | None = mb.Download(
        "https://physionet.org/files/challenge-2011/1.0.0/", only=("set-a",), always=tuple(f"set-a/RECORDS-{g}" for g in GRADES)
    )
    num_records = 1000

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """Whether a record can be interpreted."""
        return read_tasks("cinc2011_quality_tasks.toml")

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every record of both lists, by its number.

        Raises:
            UserError: a list is missing, names what is no record's number, or both name one record.
        """
        grades: dict[str, tuple[str, Path]] = {}
        for grade in GRADES:
            lists = files_below(source, f"RECORDS-{grade}")
            if not lists:
                raise mb.UserError(f"no RECORDS-{grade} in {str(source)!r}; --from wants the folder that holds set-a")
            for line in lists[0].read_text(encoding="utf-8", errors="replace").split():
                record = line.rpartition("/")[2]
                if not re.fullmatch(r"\d+", record) or record in grades:
                    raise mb.UserError(f"{lists[0].name} has {line[:20]!r}; wanted the number of a record, once in both lists")
                grades[record] = grade, lists[0].parent
        for record in sorted(grades):
            grade, folder = grades[record]
            told = " ".join(comments(folder / f"{record}.hea"))
            age, gender = _AGE.search(told), _SEX.search(told)
            yield mb.RecordInfo(
                record_id=record,
                statements=frozenset({f"quality: {grade}"}),
                age=(years(age[1]) or None) if age else None,  # 0 where it is not known
                sex=sex(gender[1]) if gender else None,
                path=(folder.relative_to(source) / record).as_posix(),
            )

    def files(self, source: Path, info: mb.RecordInfo) -> Iterator[str]:
        """Yield the header and the signal files that it names."""
        return native_files(source, info.path or "")

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the record's signal, aVL and aVF exchanged where their names are."""
        told = read_wfdb(source, info.path or "")
        other = {"AVL": "aVF", "AVF": "aVL"}
        meant = replace(told, leads=tuple(other.get(lead.upper(), lead) for lead in told.leads))
        if _miss(meant) < KEPT and _miss(told) > BROKEN:
            return replace(meant, repairs=(*told.repairs, "exchanged-lead-names"))
        return told


class SignalQualitySample(SignalQuality):
    """The records of set a at 100 Hz, by an index."""

    version = "sample of 1.0.0"
    download = None

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every record of the index; an equal record's patient is the record that it equals.

        Raises:
            UserError: the index cannot be read, or has another grade.
        """
        for row, place in read_table(source / "index.csv", _INDEX):
            if row["quality"] not in (*GRADES, ""):
                raise mb.UserError(f"{place}: quality is {row['quality'][:20]!r}; wanted {' or '.join(GRADES)}, or nothing")
            yield mb.RecordInfo(
                record_id=row["record"],
                patient_id=row["duplicate_of"] or row["record"],
                statements=frozenset({f"quality: {row['quality']}"} if row["quality"] else ()),
                path=row["signal"],
            )


def _miss(signal: mb.Signal) -> float:
    """Return by how much the limb leads miss their identities; NaN where one is missing."""
    named = {lead.casefold(): row for row, lead in enumerate(signal.leads)}
    if any(lead.casefold() not in named for lead in LIMB):
        return float("nan")
    rows = [named[lead.casefold()] for lead in LIMB]
    return identity_error(signal.millivolts[rows].astype(np.float64), tuple(LIMB))


@mb.hookimpl
def melp_datasets() -> list[mb.Entry[mb.Dataset]]:
    """Offer set a, and its sample."""
    return [
        mb.Entry(
            name="cinc2011",
            build=SignalQuality,
            summary="1,000 records from mobile telephones, graded acceptable or not for interpretation",
            source=SignalQuality.homepage,
            license=SignalQuality.licence,
        ),
        mb.Entry(
            name="cinc2011-sample",
            build=SignalQualitySample,
            summary="the graded records of the CinC Challenge 2011 at 100 Hz, by an index",
            source=SignalQuality.homepage,
            license=SignalQuality.licence,
        ),
    ]
