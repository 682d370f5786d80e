"""PTB Diagnostic ECG Database 1.0.0: 549 records of up to 2 minutes at 1000 Hz from 290 people; no official folds.

Paper: Bousseljot et al., Nutzung der EKG-Signaldatenbank CARDIODAT der PTB über das Internet, Biomedizinische Technik 40:S317
(1995). Reads the folders `patientNNN/` (the patient is the folder) or headers at any depth. Statements are lines of the
clinical summary, "reason for admission: myocardial infarction". The three Frank leads that the source has besides the twelve
are left out.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path

import melp_bench as mb
from melp_bench.records import stated
from melp_plugins.datasets.cells import UnreadCells, sex, years
from melp_plugins.datasets.challenge import header_fields, headers, read_with_erratum
from melp_plugins.datasets.wfdb_files import native_files

_REASON = "reason for admission"
_FIELDS = (_REASON, "acute infarction (localization)", "former infarction (localization)", "additional diagnoses")
_NOTHING = ("", "no")
_FRANK = ("vx", "vy", "vz")


class PTBDiagnostic(mb.Dataset):
    """PTB Diagnostic ECG Database."""

    version = "1.0.0"
    licence = "ODC-By 1.0"
    citation = (
        "Bousseljot et al., Biomedizinische Technik 40:S317 (1995), doi:10.1515/bmte.1995.40.s1.317; "
        "PhysioNet doi:10.13026/C28C71"
    )
    homepage = "https://physionet.org/content/ptbdb/1.0.0/"
    download = mb.Download("https://physionet.org/files/ptbdb/1.0.0/")
    num_records = 549

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """Why the patient was admitted."""
        return {"admission": admission_task()}

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every record with a header."""
        unread = UnreadCells()
        for path in headers(source, r"s\d{4}[a-z_]{2,4}|S\d{4}", "PTB Diagnostic (patient001/s0010_re.hea)"):
            fields = header_fields(path)
            patient = path.parent.name
            yield mb.RecordInfo(
                record_id=path.stem,
                patient_id=patient if re.fullmatch(r"patient\d{3}", patient) else None,
                statements=frozenset(_statements(fields)),
                age=unread.read(years, "age", fields.get("age", "")),
                sex=unread.read(sex, "sex", fields.get("sex", "")),
                path=path.relative_to(source).with_suffix("").as_posix(),
            )
        self.remarks = unread.remarks()

    def files(self, source: Path, info: mb.RecordInfo) -> Iterator[str]:
        """Yield the header and the signal files that it names."""
        return native_files(source, info.path or "")

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the record's signal."""
        signal = read_with_erratum(source, info.path or "", erratum=2e6)
        rows = [row for row, name in enumerate(signal.leads) if name.casefold() not in _FRANK]
        steps = signal.steps and tuple(signal.steps[row] for row in rows)
        return replace(
            signal, millivolts=signal.millivolts[rows], leads=tuple(signal.leads[row] for row in rows), steps=steps or None
        )


def _statements(fields: Mapping[str, str]) -> Iterator[str]:
    """Yield "field: value" in lower case; the reason also without what is in brackets, which is a degree."""
    for name in _FIELDS:
        value = " ".join(stated(fields.get(name, "")).casefold().split())
        if value in _NOTHING:
            continue
        yield f"{name}: {value}"
        if name == _REASON:
            yield f"{name}: {re.sub(r' *[(].*', '', value)}"


@cache
def admission_task() -> mb.Task:
    """Return the task, from `ptb_diagnostic_tasks.toml`."""
    table = tomllib.loads(files("melp_plugins.datasets").joinpath("ptb_diagnostic_tasks.toml").read_text(encoding="utf-8"))
    return mb.Task(
        "admission",
        {name: frozenset(f"{_REASON}: {reason}" for reason in part["any"]) for name, part in table.items()},
        {name: tuple(part["prompts"]) for name, part in table.items()},
    )


@mb.hookimpl
def melp_datasets() -> list[mb.Entry[mb.Dataset]]:
    """Offer the PTB Diagnostic ECG Database."""
    return [
        mb.Entry(
            name="ptb-diagnostic",
            build=PTBDiagnostic,
            summary=f"{PTBDiagnostic.num_records} records at 1000 Hz with clinical summaries",
            source=PTBDiagnostic.homepage,
            license=PTBDiagnostic.licence,
        )
    ]
