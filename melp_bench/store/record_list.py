"""What a dataset says of its records, as a store keeps it: no word for "not known" as a patient or report, no shortened id."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from melp_bench.errors import UserError
from melp_bench.records import Dataset, RecordInfo, stated
from melp_bench.splits import FOLDS, hash_fold

_SHORTENED = re.compile(r"[+-]?\d([.,]\d*)?[eE]\+?\d+")
_DECIMAL = re.compile(r"(\d+)[.,]0+")
MANY_RECORDS, LARGE_SHARE = 20, 0.05
"""A patient with so many records, and so large a share of all, is told: it may be several people under one word."""


def list_records(dataset: Dataset, source: Path) -> tuple[list[RecordInfo], list[str]]:
    """Return a dataset's records, and what a user should know of them before work starts, a sentence each.

    A patient or report that is a word for "not known" is none; a patient "12.0" is "12".

    Raises:
        UserError: as `Dataset.infos`, or a patient's id was shortened by a spreadsheet ("1.23457E+11").
    """
    decimal: list[str] = []
    infos = [_settled(info, decimal) for info in dataset.infos(source)]
    told = [*dataset.remarks, *decimal_remark(decimal)]
    known = dataset.num_records
    if known and len(infos) != known and dataset.reads_files:
        more = "" if len(infos) < known else ": more than there are"
        told.append(f"{len(infos):,} of {known:,} records that this release has{more}")
    counts = Counter(info.patient_id for info in infos if info.patient_id)
    patient, most = counts.most_common(1)[0] if counts else ("", 0)
    if most >= MANY_RECORDS and most > LARGE_SHARE * len(infos):
        told.append(f"patient {patient!r} has {most:,} of {len(infos):,} records; is it one person?")
    return infos, told


def _settled(info: RecordInfo, decimal: list[str]) -> RecordInfo:
    """Return the record with what it states; an id that lost its decimal is added to `decimal`."""
    patient, report = info.patient_id, info.report
    if patient is not None:
        patient = stated(patient) or None
    if patient is not None:
        patient = whole_id(patient, info.record_id, decimal)
    if not stated(report):
        report = ""
    return info if (patient, report) == (info.patient_id, info.report) else replace(info, patient_id=patient, report=report)


def decimal_remark(decimal: Sequence[str]) -> list[str]:
    """Return a sentence on ids that lost their decimal; none where there are none."""
    return [f"patient ids with a decimal: {len(decimal):,}, {decimal[0]!r} for one; read without it"] if decimal else []


def whole_id(patient: str, record_id: str, decimal: list[str]) -> str:
    """Return a patient's id without the decimal that a spreadsheet gave it, "12" of "12.0", which is then added to `decimal`.

    Raises:
        UserError: a spreadsheet shortened it ("1.23457E+11").
    """
    if patient.isalnum():
        return patient
    if _SHORTENED.fullmatch(patient):
        raise UserError(
            f"record {record_id!r} has the patient {patient!r}, a number that a spreadsheet shortened: several people "
            "may share it; save the table again with that column as text"
        )
    if whole := _DECIMAL.fullmatch(patient):
        decimal.append(patient)
        return whole[1]
    return patient


def check_records(infos: Sequence[RecordInfo], name: str) -> None:
    """Check what must hold over all records.

    Raises:
        UserError: there are none, one is there twice, or a patient is in two folds.
    """
    if not infos:
        raise UserError(f"dataset {name!r} lists no record in this source; is it the right folder?")
    fold_of: dict[str, int] = {}
    seen: set[str] = set()
    for info in infos:
        if info.record_id in seen:
            raise UserError(f"dataset {name!r} lists the record {info.record_id!r} twice; record ids must differ")
        seen.add(info.record_id)
        if info.fold is not None and info.fold not in FOLDS:
            raise UserError(f"record {info.record_id!r} is in fold {info.fold!r}; wanted {FOLDS[0]} to {FOLDS[-1]}")
        patient = info.patient_id or info.record_id
        fold = hash_fold(patient) if info.fold is None else info.fold
        if fold_of.setdefault(patient, fold) != fold:
            raise UserError(f"patient {patient!r} is in the folds {fold_of[patient]} and {fold}; a patient has one fold")
