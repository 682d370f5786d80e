"""CODE: `code-15` (345,779 exams of 233,770 patients) and `code-test` (827 exams read by several cardiologists), 400 Hz, 7 or
10 s.

Papers: Ribeiro et al., Automatic diagnosis of the 12-lead ECG using a deep neural network, Nature Communications 11:1760
(2020); Lima et al., Deep neural network-estimated electrocardiographic age as a mortality predictor, Nature Communications
12:5117 (2021). `code-15` reads, at any depth and together: `exams.csv` with `exams_part*.hdf5`; `.mat` files of key `feats`
with `meta.csv` or `labels.csv` as ECG-FM's sample has them; and the WFDB conversion of the PhysioNet Challenge 2025, whose
headers say whether the patient has Chagas disease. `code-test` reads `ecg_tracings.hdf5` with `gold_standard.csv` (or any
table of the six classes, one row per tracing) and `attributes.csv`. Units and lead order of HDF5 files are measured, see
`hdf5_tracings`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

import melp_bench as mb
from melp_bench.records import stated
from melp_plugins.datasets import hdf5_tracings
from melp_plugins.datasets.cells import UnreadCells, sex, truth, years
from melp_plugins.datasets.challenge import header_fields, header_info
from melp_plugins.datasets.folders import files_below
from melp_plugins.datasets.matlab_files import read_matlab
from melp_plugins.datasets.tables import read_table
from melp_plugins.datasets.wfdb_files import read_wfdb

CLASSES = ("1dAVb", "RBBB", "LBBB", "SB", "AF", "ST")
PROMPTS: Mapping[str, tuple[str, ...]] = {
    "1dAVb": ("first degree atrioventricular block", "first degree AV block", "1st degree AV block with prolonged PR interval"),
    "RBBB": (
        "right bundle branch block",
        "complete right bundle branch block",
        "wide QRS with rsR' in V1, right bundle branch block",
    ),
    "LBBB": ("left bundle branch block", "complete left bundle branch block", "left bundle branch block with wide QRS"),
    "SB": ("sinus bradycardia", "slow sinus rhythm", "sinus rhythm with a heart rate below 60"),
    "AF": ("atrial fibrillation", "atrial fibrillation with irregular ventricular response", "no P waves, atrial fibrillation"),
    "ST": ("sinus tachycardia", "fast sinus rhythm", "sinus rhythm with a heart rate above 100"),
}
CHAGAS = "chagas"
_RATE_HZ = 400.0
_SEXES = {True: "M", False: "F"}


def code_task() -> mb.Task:
    """Return the six classes; an exam without any is a negative of all."""
    return mb.Task("all", {name: frozenset({name}) for name in CLASSES}, PROMPTS, keep_unlabelled=True)


def chagas_task() -> mb.Task:
    """Return whether the patient has Chagas disease; exams of which nothing is known are left out."""
    return mb.Task(
        "chagas",
        {"CHAGAS": frozenset({CHAGAS}), "NONE": frozenset({f"no {CHAGAS}"})},
        {
            "CHAGAS": ("Chagas disease", "Chagas cardiomyopathy", "ECG of a patient with Chagas disease"),
            "NONE": ("no Chagas disease", "ECG of a patient without Chagas disease"),
        },
    )


def wfdb_infos(source: Path, origin: str, unread: UnreadCells) -> Iterator[mb.RecordInfo]:
    """Yield the exams of the Challenge 2025's WFDB conversion below `source`; the label's absence is no label.

    Its sources lie in one folder and have the same kind of names: a header that names another source than `origin` is none of
    this dataset's, one that names none is.
    """
    for path in (path for path in files_below(source, "*.hea") if re.fullmatch(r"\d+", path.stem)):
        fields = header_fields(path)
        if not _plain(fields.get("source", origin)).startswith(_plain(origin)):
            continue
        label = fields.get("chagas label", "").casefold()
        known = {"true": {CHAGAS}, "false": {f"no {CHAGAS}"}}.get(label, set())
        yield replace(header_info(source, path, unread), statements=frozenset(known))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


class CODE15(mb.Dataset):
    """CODE-15 %; `unit` is that of HDF5 files: mV, 1e-4V, uV, V, or auto to measure it."""

    version = "1.0.0"
    licence = "CC BY 4.0"
    citation = (
        "Ribeiro et al., Nature Communications 11:1760 (2020), doi:10.1038/s41467-020-15432-4; "
        "Lima et al., Nature Communications 12:5117 (2021), doi:10.1038/s41467-021-25351-7; Zenodo doi:10.5281/zenodo.4916206"
    )
    homepage = "https://zenodo.org/records/4916206"
    download = mb.Download("https://zenodo.org/api/records/4916206", listing="zenodo", always=("exams.csv",), unpack=True)
    num_records = 345_779

    def __init__(self, *, unit: str = "auto") -> None:
        self.unit = checked_unit(unit)
        self._rows: dict[Path, dict[int, list[int]]] = {}
        self._twice: set[str] = set()  # exams of which a table says two things

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """The six classes, and Chagas disease where the packaging has it."""
        return {"all": code_task(), "chagas": chagas_task()}

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every exam, once; what the tables say wins over the headers."""
        found: dict[str, mb.RecordInfo] = {}
        unread = UnreadCells()
        self._twice.clear()
        for path in sorted([*files_below(source, "exams.csv"), *files_below(source, "meta.csv")]):
            here: dict[str, mb.RecordInfo] = {}
            for info in _table_infos(source, path, unread):
                if here.setdefault(info.record_id, info) != info:
                    self._twice.add(info.record_id)
            found |= here
        for info in wfdb_infos(source, "CODE-15", unread):
            known = found.get(info.record_id)
            found[info.record_id] = (
                replace(known, statements=known.statements | info.statements, path=info.path) if known else info
            )
        if not found:
            raise mb.UserError(
                f"no exam of CODE-15 in {str(source)!r}; wanted exams.csv, meta.csv or headers such as 1000001.hea"
            )
        yield from (found[key] for key in sorted(found, key=lambda key: (len(key), key)))
        self.remarks = unread.remarks()

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the exam's signal."""
        path = info.path or ""
        if info.record_id in self._twice:
            raise mb.BadRecord("duplicate-exam", f"a table has exam {info.record_id} twice and says different things of it")
        if path.endswith(".mat"):
            return _read_mat(source / path)
        if not path.endswith((".hdf5", ".h5")):
            return read_wfdb(source, path)
        file = source / path
        if file not in self._rows:
            ids = hdf5_tracings.row_ids(file)
            if ids is None:
                raise mb.BadRecord("missing-samples", f"{file.name!r} does not say which exam a row is")
            rows_of = self._rows[file] = {}
            for row, exam in enumerate(ids.tolist()):
                rows_of.setdefault(exam, []).append(row)
        rows = self._rows[file].get(int(info.record_id), [])
        if not rows:
            raise mb.BadRecord("missing-samples", f"{file.name!r} has no row of exam {info.record_id}")
        if len(rows) > 1:
            raise mb.BadRecord(
                "duplicate-exam", f"{file.name!r} has exam {info.record_id} in the rows {rows[:8]}; which is it?"
            )
        return hdf5_tracings.read_tracing(file, rows[0], unit=self.unit)


class CODETest(mb.Dataset):
    """CODE-test; `unit` as for CODE-15."""

    version = "1.0.2"
    licence = "CC BY 4.0"
    citation = (
        "Ribeiro et al., Nature Communications 11:1760 (2020), doi:10.1038/s41467-020-15432-4; "
        "Zenodo doi:10.5281/zenodo.3765780"
    )
    homepage = "https://zenodo.org/records/3765780"
    download = mb.Download("https://zenodo.org/api/records/3765780", listing="zenodo", unpack=True)
    num_records = 827

    def __init__(self, *, unit: str = "auto") -> None:
        self.unit = checked_unit(unit)

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """The six classes."""
        return {"all": code_task()}

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every row of the gold standard; a row is the tracing of its number."""
        gold = files_below(source, "gold_standard.csv") or files_below(source, "code_test.csv")
        if not gold:
            raise mb.UserError(f"no gold_standard.csv in {str(source)!r}; --from wants the folder of the six classes' table")
        rows = list(read_table(gold[0], CLASSES))
        people = [row for path in files_below(source, "attributes.csv")[:1] for row, _ in read_table(path, ("age", "sex"))]
        files = files_below(source, "ecg_tracings.hdf5")
        if files:
            had = hdf5_tracings.num_rows(files[0])
            if had != len(rows):
                raise mb.UserError(f"{gold[0].name!r} has {len(rows)} rows, {files[0].name!r} {had}; a row must be a tracing")
        if people and len(people) != len(rows):
            raise mb.UserError(
                f"{gold[0].name!r} has {len(rows)} rows, 'attributes.csv' {len(people)}; a row must be a tracing"
            )
        path = (files[0] if files else source / "ecg_tracings.hdf5").relative_to(source).as_posix()
        unread = UnreadCells()
        for number, (row, place) in enumerate(rows):
            person = people[number] if people else {}
            yield mb.RecordInfo(
                record_id=str(number),
                statements=frozenset(name for name in CLASSES if truth(row[name], name, place)),
                age=unread.read(years, "age", person.get("age", "")),
                sex=unread.read(sex, "sex", person.get("sex", "")),
                path=path,
            )
        self.remarks = unread.remarks()

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the tracing of the row."""
        return hdf5_tracings.read_tracing(source / (info.path or ""), int(info.record_id), unit=self.unit)


def checked_unit(unit: str) -> str:
    """Return `unit` if there is one of that name.

    Raises:
        UserError: there is none.
    """
    if unit not in ("auto", *hdf5_tracings.UNITS):
        raise mb.UserError(f"no unit {unit!r}; wanted auto, {', '.join(hdf5_tracings.UNITS)}")
    return unit


def _table_infos(source: Path, path: Path, unread: UnreadCells) -> Iterator[mb.RecordInfo]:
    """Yield the exams of a table; its files lie beside it."""
    for row, place in read_table(path, ("exam_id", "age", "is_male", "patient_id", "trace_file", *CLASSES)):
        if not re.fullmatch(r"\d+(\.0)?", row["exam_id"]):
            raise mb.UserError(f"{place}: exam_id is {row['exam_id'][:20]!r}; wanted a number")
        male = truth(row["is_male"], "is_male", place) if stated(row["is_male"]) else None
        file = row.get("save_file", "") or row["trace_file"]
        yield mb.RecordInfo(
            record_id=row["exam_id"].removesuffix(".0"),
            patient_id=row["patient_id"].removesuffix(".0") or None,
            statements=frozenset(name for name in CLASSES if truth(row[name], name, place)),
            age=unread.read(years, "age", row["age"]),
            sex=None if male is None else _SEXES[male],
            path=(path.parent.relative_to(source) / file).as_posix() if file else None,
        )


def _read_mat(path: Path) -> mb.Signal:
    """Return the array `feats` (12, T), millivolts."""
    values = read_matlab(path, ("feats", "curr_sample_rate"))
    samples, rates = np.asarray(values.get("feats")), np.asarray(values.get("curr_sample_rate", _RATE_HZ))
    if rates.size != 1 or rates.dtype.kind not in "fiu":
        raise mb.BadRecord("bad-rate", f"{path.name!r}: curr_sample_rate is {rates.dtype} of {rates.shape}; wanted one number")
    if samples.ndim != 2 or len(samples) != len(mb.LEADS) or samples.dtype.kind not in "fiu":
        raise mb.BadRecord("wrong-shape", f"{path.name!r}: feats is {samples.dtype} of {samples.shape}; wanted (12, samples)")
    real = hdf5_tracings.stripped(np.asarray(samples.T, dtype=np.float32))
    return mb.Signal(np.ascontiguousarray(real.T), float(rates.item()))


def entry(name: str, build: type[CODE15] | type[CODETest], summary: str) -> mb.Entry[mb.Dataset]:
    """Return the entry of a dataset of this family."""
    return mb.Entry(name=name, build=build, summary=summary, source=build.homepage, license=build.licence)


@mb.hookimpl
def melp_datasets() -> list[mb.Entry[mb.Dataset]]:
    """Offer CODE-15 % and CODE-test."""
    return [
        entry("code-15", CODE15, f"{CODE15.num_records:,} exams of Minas Gerais in six classes"),
        entry("code-test", CODETest, f"{CODETest.num_records} exams read by several cardiologists, six classes"),
    ]
