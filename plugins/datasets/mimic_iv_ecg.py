"""MIMIC-IV-ECG 1.0: 800,035 records of 10 s at 500 Hz of 161,352 patients, with machine reports; no official folds.

Data: Gow et al., MIMIC-IV-ECG: Diagnostic Electrocardiogram Matched Subset (2023). Reads `record_list.csv`,
`machine_measurements.csv` and the WFDB files, whose lead order is I, II, III, aVR, aVF, aVL, V1-V6; leads go by name. The
split is by patient.

Reports follow the rules of the literature (Liu et al., MERL, 2024): lines `report_0` to `report_17` joined by ". ", "EKG"
written "ECG", rulers of `*` and `=` trimmed, lower case; a record whose report has fewer than 4 words is quarantined
("short-report"), which leaves 771,693. Statements are the report's lines, each as a whole.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

import melp_bench as mb
from melp_bench.records import stated
from melp_plugins.datasets.tables import read_table
from melp_plugins.datasets.wfdb_files import read_wfdb

_RECORDS, _MACHINE = "record_list.csv", "machine_measurements.csv"
_LINES = tuple(f"report_{n}" for n in range(18))
_MEASURED = ("rr_interval", "p_onset", "p_end", "qrs_onset", "qrs_end", "t_end", "p_axis", "qrs_axis", "t_axis")
_NOT_MEASURED = 29999.0


class MIMICIVECG(mb.Dataset):
    """MIMIC-IV-ECG; records with a report of fewer than `min_words` words are quarantined, 0 keeps all."""

    version = "1.0"
    licence = "ODbL 1.0"
    citation = "Gow et al., MIMIC-IV-ECG: Diagnostic Electrocardiogram Matched Subset (2023), PhysioNet doi:10.13026/4nqg-sb35"
    homepage = "https://physionet.org/content/mimic-iv-ecg/1.0/"
    download = mb.Download("https://physionet.org/files/mimic-iv-ecg/1.0/", always=(_RECORDS, _MACHINE, "LICENSE.txt"))
    num_records = 800_035

    def __init__(self, *, min_words: int = 4) -> None:
        if min_words < 0:
            raise mb.UserError(f"min_words is {min_words}; wanted 0 (keep every record) or more")
        self.min_words = min_words

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """What the machine reads, by whole lines of its report."""
        return {"machine": machine_task()}

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every record of the list, with the report of its study."""
        studies: dict[str, tuple[str, frozenset[str], Mapping[str, float]]] = {}
        for row, place in read_table(source / _MACHINE, ("study_id", *_LINES)):
            lines = [row[name] for name in _LINES if stated(row[name])]
            if row["study_id"] in studies:
                raise mb.UserError(f"{place}: study {row['study_id']!r} is there twice; fetch the published table again")
            studies[row["study_id"]] = (report(lines), frozenset(_statements(lines)), _measurements(row, place))
        for row, place in read_table(source / _RECORDS, ("subject_id", "study_id", "path")):
            if not (stated(row["subject_id"]) and stated(row["study_id"])):
                raise mb.UserError(f"{place} lacks subject_id or study_id; wanted a whole row of the published table")
            text, statements, measurements = studies.get(row["study_id"], ("", frozenset(), {}))
            yield mb.RecordInfo(
                record_id=row["study_id"],
                patient_id=row["subject_id"],
                statements=statements,
                report=text,
                path=row["path"],
                measurements=measurements,
            )

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the record's signal."""
        words = len(info.report.split())
        if words < self.min_words:
            raise mb.BadRecord("short-report", f"its report has {words} words; wanted {self.min_words}, or min_words=0")
        if not info.path:
            raise mb.BadRecord("missing-file", "the list names no file")
        return read_wfdb(source, info.path)


def report(lines: list[str]) -> str:
    """Return the lines of a report as the literature reads them, with a full stop; empty where there is nothing to read."""
    text = ". ".join(lines).replace("EKG", "ECG").replace("ekg", "ecg").strip(" *").strip("=-").lower()
    text = " ".join(text.split())
    return f"{text}." if text else ""


def _statements(lines: list[str]) -> Iterator[str]:
    """Yield each line in lower case, its blanks single, without the full stop or ruler at its ends."""
    for line in lines:
        text = re.sub(r"^[\s*=.-]+|[\s*=.-]+$", "", " ".join(line.split())).casefold()
        if text:
            yield text


def _measurements(row: Mapping[str, str], place: str) -> dict[str, float]:
    """Return what the machine measured, in ms and degrees; what it writes for "not measured" is left out."""
    measured: dict[str, float] = {}
    for name in _MEASURED:
        cell = stated(row.get(name, ""))
        try:
            value = float(cell) if cell else _NOT_MEASURED
        except ValueError:
            raise mb.UserError(f"{place}: {name} is {cell[:40]!r}; wanted a number") from None
        if math.isfinite(value) and value != _NOT_MEASURED:
            measured[name] = value
    return measured


@cache
def machine_task() -> mb.Task:
    """Return the task, from `mimic_iv_ecg_tasks.toml`."""
    table = tomllib.loads(files("melp_plugins.datasets").joinpath("mimic_iv_ecg_tasks.toml").read_text(encoding="utf-8"))
    return mb.Task(
        "machine",
        {name: frozenset(part["any"]) for name, part in table.items()},
        {name: tuple(part["prompts"]) for name, part in table.items()},
    )


@mb.hookimpl
def melp_datasets() -> list[mb.Entry[mb.Dataset]]:
    """Offer MIMIC-IV-ECG."""
    return [
        mb.Entry(
            name="mimic-iv-ecg",
            build=MIMICIVECG,
            summary=f"{MIMICIVECG.num_records:,} records with machine reports, for pretraining",
            source=MIMICIVECG.homepage,
            license=MIMICIVECG.licence,
        )
    ]
