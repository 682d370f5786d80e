"""LUDB 1.0.1: 200 twelve-lead records of 10 s at 500 Hz with cardiologists' diagnoses; a patient each, no official folds.

Paper: Kalyakulina et al., LUDB: A New Open-Access Validation Tool for Electrocardiogram Delineation Algorithms, IEEE Access
8:186181 (2020). Reads `ludb.csv` and the WFDB files in `data/`; the report is the header's list of diagnoses.

A statement is "column: value" in lower case, "ischemia: stemi: anterior wall", and its kind is a statement too:
"ischemia: stemi". Classes have the SCP code as their name where one fits, so that PTB-XL's classes are found by name.

The headers' gains are wrong: they make every lead as large as the others. The samples are microvolts: with one gain for all,
II = I + III holds to the last unit in all 200 records (with the headers' gains the six limb leads miss their identities by
10 to 170 %), and the leads' median spreads are those of PTB-XL within 18 %. `signal` reads them so and says it did.
"""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np

import melp_bench as mb
from melp_bench.lead_identity import identity_error
from melp_bench.leads import LIMB
from melp_bench.records import stated
from melp_plugins.datasets.wfdb_files import comments, read_wfdb

_TABLE = "ludb.csv"
_COLUMNS = {
    "Rhythms": "rhythm",
    "Electric axis of the heart": "axis",
    "Conduction abnormalities": "conduction",
    "Extrasystolies": "extrasystoles",
    "Hypertrophies": "hypertrophy",
    "Cardiac pacing": "pacing",
    "Ischemia": "ischemia",
    "Non-specific repolarization abnormalities": "repolarisation",
    "Other states": "other",
}
MICROVOLT = 0.001
IDENTICAL, CONTRARY = 0.02, 0.05
"""Miss of the limb leads' identities: of LUDB's samples at most 0.008, with its headers' gains at least 0.1."""
_OLDEST_YEARS = 90.0  # the table writes >89, to hide the age


class LUDB(mb.Dataset):
    """Lobachevsky University Electrocardiography Database."""

    version = "1.0.1 (uV)"  # the release, and how its samples are read
    licence = "ODC-By 1.0"
    citation = (
        "Kalyakulina et al., IEEE Access 8:186181 (2020), doi:10.1109/ACCESS.2020.3029211; PhysioNet doi:10.13026/eegm-h675"
    )
    homepage = "https://physionet.org/content/ludb/1.0.1/"
    download = mb.Download("https://physionet.org/files/ludb/1.0.1/", always=(_TABLE, "LICENSE.txt"))
    num_records = 200

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """Rhythm, axis, conduction, extrasystoles, hypertrophy, pacing, ischemia and repolarisation."""
        return ludb_tasks()

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every record of the table."""
        path = source / _TABLE
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file)
                had = list(reader.fieldnames or ())
                lacking = [name for name in ("ID", "Sex", "Age", *_COLUMNS) if name not in had]
                if lacking:
                    raise mb.UserError(f"{str(path)!r} lacks the columns {lacking}; it has {had}")
                for row in reader:
                    yield _info(source, {name: row[name] or "" for name in had if name})
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise mb.UserError(f"cannot read {str(path)!r}: {error}; --from wants the folder that holds it") from error

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the record's signal, read as microvolts where the limb leads contradict the header's gains, and not these."""
        told = read_wfdb(source, info.path or "")
        meant = read_wfdb(source, info.path or "", checksums=False, step=MICROVOLT)
        if _limb_miss(meant) < IDENTICAL and _limb_miss(told) > CONTRARY:
            return replace(meant, repairs=("gain-erratum",))
        return told


def _limb_miss(signal: mb.Signal) -> float:
    """Return by how much the limb leads miss their identities; NaN where one has another name, or samples are missing."""
    named = {lead.casefold(): row for row, lead in enumerate(signal.leads)}
    if any(lead.casefold() not in named for lead in LIMB):
        return float("nan")
    rows = [named[lead.casefold()] for lead in LIMB]
    return identity_error(signal.millivolts[rows].astype(np.float64), tuple(LIMB))


def _info(source: Path, row: Mapping[str, str]) -> mb.RecordInfo:
    record = row["ID"].strip()
    sex = row["Sex"].strip()
    return mb.RecordInfo(
        record_id=record,
        statements=frozenset(s for column, short in _COLUMNS.items() for s in _statements(short, column, row[column])),
        report=_report(source, record, row),
        age=_age(stated(row["Age"]), record),
        sex=sex if sex in ("F", "M") else None,
        path=f"data/{record}",
    )


def _statements(short: str, column: str, cell: str) -> Iterator[str]:
    """Yield the statements of a cell, one per line, each with its kind (what comes before the first comma or colon)."""
    for line in cell.splitlines():
        value = " ".join(line.split()).rstrip(".").casefold()
        value = value.removeprefix(f"{column.casefold()}: ") if short in ("axis", "repolarisation") else value
        if stated(value):
            yield f"{short}: {value}"
            yield f"{short}: {re.split('[:,]', value)[0].strip()}"


def _age(cell: str, record: str) -> float | None:
    if cell.startswith(">"):
        return _OLDEST_YEARS
    if cell and not re.fullmatch(r"\d{1,3}(\.\d+)?", cell):
        raise mb.UserError(f"record {record!r} of {_TABLE} has the age {cell[:20]!r}; wanted years")
    return float(cell) if cell else None


def _report(source: Path, record: str, row: Mapping[str, str]) -> str:
    """Return the diagnoses of the header as sentences; of the table where there is no header to read."""
    lines = comments(source / "data" / f"{record}.hea") if re.fullmatch(r"\w+", record) else []
    if "<diagnoses>:" in lines:
        sentences = lines[lines.index("<diagnoses>:") + 1 :]
    else:
        sentences = [line for column in _COLUMNS for line in row[column].splitlines()]
    return " ".join(f"{text.rstrip('.')}." for text in (" ".join(s.split()) for s in sentences) if text)


@cache
def ludb_tasks() -> dict[str, mb.Task]:
    """Return the tasks by name, from `ludb_tasks.toml`."""
    text = files("melp_plugins.datasets").joinpath("ludb_tasks.toml").read_text(encoding="utf-8")
    return {
        name: mb.Task(
            name=name,
            members={cls: frozenset(f"{name}: {s}" if ":" not in s else s for s in part["any"]) for cls, part in table.items()},
            prompts={cls: tuple(part["prompts"]) for cls, part in table.items()},
            keep_unlabelled=name not in ("rhythm", "axis"),
        )
        for name, table in tomllib.loads(text).items()
    }


@mb.hookimpl
def melp_datasets() -> list[mb.Entry[mb.Dataset]]:
    """Offer LUDB."""
    return [
        mb.Entry(
            name="ludb",
            build=LUDB,
            summary="200 records with cardiologists' diagnoses and wave annotations",
            source=LUDB.homepage,
            license=LUDB.licence,
        )
    ]
