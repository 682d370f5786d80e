"""CPSC 2018: 6,877 public records of 6 to 60 s at 500 Hz in nine classes; no patients, no official folds.

Paper: Liu et al., An open access database for evaluating the algorithms of electrocardiogram rhythm and morphology abnormality
detection, Journal of Medical Imaging and Health Informatics 8:1368 (2018). Two packagings are read, at any depth: the
challenge's WFDB (`A0001.hea`, `A0001.mat`, codes in the header) and the original MATLAB struct `ECG` (sex, age, data in
millivolts; `A0001.mat` alone). Labels are the header's; where a table lies beside the records they are the table's:
`REFERENCE.csv` (Recording, First_label to Third_label, 1 to 9) or a CSV with `filename` and a column of 0 and 1 per class.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import melp_bench as mb
from melp_plugins.datasets import snomed
from melp_plugins.datasets.cells import UnreadCells, sex, years
from melp_plugins.datasets.challenge import challenge_download, header_info
from melp_plugins.datasets.folders import files_below
from melp_plugins.datasets.matlab_files import read_matlab
from melp_plugins.datasets.wfdb_files import read_wfdb

_RECORD = r"A\d{4,5}"
_RATE_HZ = 500.0
_REFERENCE = ("NORM", "AFIB", "1AVB", "CLBBB", "CRBBB", "PAC", "VPC", "STD", "STE")
"""The numbers 1 to 9 of `REFERENCE.csv`."""


class CPSC2018(mb.Dataset):
    """China Physiological Signal Challenge 2018."""

    version = "2018 (challenge-2021 1.0.3)"
    licence = "CC BY 4.0"
    citation = (
        "Liu et al., J Med Imaging Health Inform 8:1368 (2018), doi:10.1166/jmihi.2018.2442; PhysioNet doi:10.13026/34va-7q14"
    )
    homepage = "https://physionet.org/content/challenge-2021/1.0.3/"
    download = challenge_download("cpsc_2018")
    num_records = 6_877

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """The nine classes."""
        return snomed.cpsc_tasks()

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every record, of whichever packaging."""
        files = _files(source, "A*.mat") | _files(source, "A*.hea")
        if not files:
            raise mb.UserError(
                f"no record of CPSC 2018 (A0001.hea or A0001.mat) in {str(source)!r}; give the folder that holds them"
            )
        labels, unread = _labels(source), UnreadCells()
        for name, path in sorted(files.items()):
            info = header_info(source, path, unread) if path.suffix == ".hea" else _struct_info(source, path, unread)
            statements = labels.get(name, frozenset()) or info.statements
            yield replace(info, statements=statements)
        self.remarks = unread.remarks()

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the record's signal."""
        if not (info.path or "").endswith(".mat"):
            return read_wfdb(source, info.path or "")
        struct = _struct(source / (info.path or ""))
        data = np.asarray(struct["data"])
        if data.ndim != 2 or data.shape[0] != len(mb.LEADS) or data.dtype.kind not in "fiu":
            raise mb.BadRecord("wrong-shape", f"ECG.data is {data.dtype} of {data.shape}; wanted numbers of (12, samples)")
        return mb.Signal(np.ascontiguousarray(data, dtype=np.float32), _RATE_HZ)


def _files(source: Path, pattern: str) -> dict[str, Path]:
    """Return the files of records by record."""
    files: dict[str, Path] = {}
    for path in files_below(source, pattern):
        if re.fullmatch(_RECORD, path.stem) and files.setdefault(path.stem, path) != path:
            raise mb.UserError(
                f"record {path.stem!r} is there twice: {str(files[path.stem])!r} and {str(path)!r}; give a folder with one"
            )
    return files


def _struct_info(source: Path, path: Path, unread: UnreadCells) -> mb.RecordInfo:
    """Return what the struct says of its patient; a file that cannot be read is listed, and quarantined by `signal`."""
    try:
        struct = _struct(path)
    except (mb.BadRecord, OSError):
        struct = {}
    age, gender = (np.asarray(struct.get(name, "")).ravel()[:1].tolist() for name in ("age", "sex"))
    return mb.RecordInfo(
        record_id=path.stem,
        age=unread.read(years, "age", str(age[0])) if age else None,
        sex=unread.read(sex, "sex", str(gender[0])) if gender else None,
        path=path.relative_to(source).as_posix(),
    )


def _struct(path: Path) -> dict[str, Any]:
    """Return the fields of the struct `ECG`: sex, age and data.

    Raises:
        BadRecord: there is no such struct, or it has no data.
    """
    struct = read_matlab(path, ("ECG",)).get("ECG")
    if not isinstance(struct, dict) or struct.get("data") is None:
        raise mb.BadRecord("unreadable-samples", f"{path.name!r} has no struct 'ECG' with the field 'data'")
    return struct


def _labels(source: Path) -> dict[str, frozenset[str]]:
    """Return codes by record from the tables at any depth of `source`; none where there is no table."""
    labels: dict[str, frozenset[str]] = {}
    for path in files_below(source, "*.csv"):
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file)
                columns = set(reader.fieldnames or ())
                if {"Recording", "First_label"} <= columns:
                    read = _numbered
                elif {"filename", *snomed.CPSC_CLASSES} <= columns:
                    read = _marked
                else:
                    continue
                for row in reader:
                    name, codes = read(row, f"{path.name} line {reader.line_num}")
                    if labels.setdefault(name, codes) != codes:
                        raise mb.UserError(f"{path.name} line {reader.line_num}: {name!r} had other labels before")
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise mb.UserError(f"cannot read {str(path)!r}: {error}; mend it or take it out of the folder") from error
    return labels


def _numbered(row: Mapping[str, str | None], place: str) -> tuple[str, frozenset[str]]:
    cells = [(row.get(f"{nth}_label") or "").strip() for nth in ("First", "Second", "Third")]
    wrong = [cell for cell in cells if cell and not re.fullmatch("[1-9]", cell)]
    if wrong:
        raise mb.UserError(f"{place}: label {wrong[0][:20]!r}; wanted 1 to 9 or nothing")
    codes = (snomed.CPSC_CLASSES[_REFERENCE[int(cell) - 1]] for cell in cells if cell)
    return (row["Recording"] or "").strip(), frozenset(codes)


def _marked(row: Mapping[str, str | None], place: str) -> tuple[str, frozenset[str]]:
    marks = {name: (row[name] or "").strip() for name in snomed.CPSC_CLASSES}
    wrong = {name: mark for name, mark in marks.items() if mark not in ("0", "1", "0.0", "1.0")}
    if wrong:
        name, mark = next(iter(wrong.items()))
        raise mb.UserError(f"{place}: {name} is {mark[:20]!r}; wanted 0 or 1")
    codes = (snomed.CPSC_CLASSES[name] for name, mark in marks.items() if mark.startswith("1"))
    return (row["filename"] or "").strip(), frozenset(codes)


@mb.hookimpl
def melp_datasets() -> list[mb.Entry[mb.Dataset]]:
    """Offer CPSC 2018."""
    return [
        mb.Entry(
            name="cpsc2018",
            build=CPSC2018,
            summary=f"{CPSC2018.num_records:,} records of 6 to 60 s in nine classes",
            source=CPSC2018.homepage,
            license=CPSC2018.licence,
        )
    ]
