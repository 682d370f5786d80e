"""ZZU pECG: 14,190 records of 5 to 120 s at 500 Hz of 11,643 children in hospital; no official folds.

Paper: Tan et al., A pediatric ECG database with disease diagnosis covering 11643 children, Scientific Data 12 (2025). Reads
`AttributesDictionary.csv`, `DiseaseCode.csv` (ICD-10 code to type of disease) and WFDB files in `Child_ecg/`, by the column
`Filename`; 1,856 records have nine leads, without V2, V4 and V6. Ages are in days.

`AHA_code` lists findings parted by ";": the AHA's category letter and code ("L147"), with modifiers ("L145+Modifier362"), or
words where the AHA has no code. Statements are the code's digits, as in `sph`, or the words in lower case; and "icd-10: CODE"
and "disease: TYPE" of what the child was discharged with, which need not show in this tracing.

Written from the paper and from descriptions of the files; no file of the release was at hand. The archive comes in two parts,
which `7z x Child_ecg.zip` unpacks together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import melp_bench as mb
from melp_bench.records import stated
from melp_plugins.datasets import aha
from melp_plugins.datasets.cells import UnreadCells, sex, years
from melp_plugins.datasets.folders import files_below
from melp_plugins.datasets.tables import read_table
from melp_plugins.datasets.task_tables import read_tasks
from melp_plugins.datasets.wfdb_files import native_files, read_wfdb

_TABLE, _DISEASES = "AttributesDictionary.csv", "DiseaseCode.csv"
_COLUMNS = ("Filename", "ECG_ID", "Patient_ID", "Age", "Gender", "AHA_code", "ICD-10 code")
_CODE = re.compile(r"[A-Z](\d{1,3})((?:\+Modifier\d{3})*)")


class ZZUpECG(mb.Dataset):
    """Zhengzhou University's database of children's ECGs."""

    version = "1"
    licence = "CC BY 4.0"
    citation = "Tan et al., Scientific Data 12 (2025), doi:10.1038/s41597-025-05225-z; figshare 10.6084/m9.figshare.27078763"
    homepage = "https://doi.org/10.6084/m9.figshare.27078763"
    download = mb.Download(
        "https://api.figshare.com/v2/articles/27078763", listing="figshare", always=(_TABLE, _DISEASES, "ECGCode.csv")
    )
    num_records = 14_190

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """What the child had, and what the tracing shows."""
        return zzu_tasks()

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every record of the table."""
        tables = files_below(source, _TABLE)
        if not tables:
            raise mb.UserError(f"no {_TABLE} in {str(source)!r}; --from wants the folder that holds it")
        folder, unread = tables[0].parent, UnreadCells()
        diseases = {row["ICD-10 Code"]: _plain(row["Disease Type"]) for row, _ in _disease_rows(folder / _DISEASES)}
        for row, place in read_table(tables[0], _COLUMNS):
            name = row["Filename"].strip("/")
            if not (name and stated(row["ECG_ID"])):
                raise mb.UserError(f"{place} lacks Filename or ECG_ID; wanted a whole row of the published table")
            codes = [code for code in map(_unquoted, row["ICD-10 code"].split(";")) if stated(code) and code != "Null"]
            findings = _findings(row["AHA_code"])
            yield mb.RecordInfo(
                record_id=row["ECG_ID"],
                patient_id=row["Patient_ID"] or None,
                statements=frozenset(
                    [*findings, *(f"icd-10: {c}" for c in codes), *(f"disease: {diseases[c]}" for c in codes if c in diseases)]
                ),
                age=unread.read(years, "Age", row["Age"]),
                sex=unread.read(sex, "Gender", _unquoted(row["Gender"])),
                path=(folder.relative_to(source) / "Child_ecg" / name).as_posix(),
            )
        told = f"{folder / 'Child_ecg.zip'} and its part .z01 are one archive: 7z x Child_ecg.zip unpacks both"
        packed = (folder / "Child_ecg.zip").is_file() and not (folder / "Child_ecg").is_dir()
        self.remarks = [*([told] if packed else []), *unread.remarks()]

    def files(self, source: Path, info: mb.RecordInfo) -> Iterator[str]:
        """Yield the header and the signal files that it names."""
        return native_files(source, info.path or "")

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the record's signal."""
        return read_wfdb(source, info.path or "")


def _disease_rows(path: Path) -> Iterator[tuple[dict[str, str], str]]:
    return read_table(path, ("Disease Type", "ICD-10 Code"))


def _unquoted(cell: str) -> str:
    return cell.strip().strip("'").strip()


def _plain(words: str) -> str:
    return " ".join(words.casefold().split())


def _findings(cell: str) -> Iterator[str]:
    """Yield the statements of a cell such as "'L147';'Left ventricular high voltage'"."""
    for token in map(_unquoted, cell.split(";")):
        if code := _CODE.fullmatch(token):
            yield from aha.with_modifiers(code[1], re.findall(r"\d{3}", code[2]))
        elif stated(token):
            yield _plain(token)


@cache
def zzu_tasks() -> dict[str, mb.Task]:
    """Return `disease`, and `findings`: the AHA's statements as in `sph`, and some that the AHA has no code for."""
    own, findings = read_tasks("zzu_pecg_tasks.toml"), aha.aha_tasks()["all"]
    more = own["more"]
    return {
        "disease": own["disease"],
        "findings": replace(
            findings,
            name="findings",
            members={**findings.members, **more.members},
            prompts={**findings.prompts, **more.prompts},
        ),
    }


@mb.hookimpl
def melp_datasets() -> list[mb.Entry[mb.Dataset]]:
    """Offer ZZU pECG."""
    return [
        mb.Entry(
            name="zzu-pecg",
            build=ZZUpECG,
            summary=f"{ZZUpECG.num_records:,} records of children with findings and diseases",
            source=ZZUpECG.homepage,
            license=ZZUpECG.licence,
        )
    ]
