"""The files that hospitals keep: GE MUSE XML, HL7 aECG, Philips Sierra XML, DICOM, SCP-ECG, EDF, ISHNE, MFER, CSV and NumPy.

A folder of any depth and any mix, each file by its content. The rhythm strip is read, not the median beat, with the leads
that the file has; what it does not state is not made up, and the file is quarantined with the reason. The report, age, sex
and measurements are taken along; each line of the report is a statement, "report: " before it. With `labels.csv` (or the file
of `labels`) in the folder, what it says goes first, its other columns are classes, and only records that it lists are read;
see `label_table`.

Nobody's name, number or date of birth is stored: patients are pseudonyms (`melp_bench.pseudonyms`), by number or else by name
and date of birth, reports lose the words of who the patient and the staff are, ages above 89 are 90. A record's name is its
file's, unless `record_names` is `digest` or the name of any file tells who its patient is: then all are digests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import melp_bench as mb
from melp_bench.pseudonyms import pseudonym
from melp_bench.records import stated
from melp_bench.store.record_list import decimal_remark, whole_id
from melp_plugins.datasets.columns import named_columns, named_leads
from melp_plugins.datasets.dicom_files import read_dicom
from melp_plugins.datasets.ecg_file import ECGFile, Identity, kept_age, report_text, who, without_calibration
from melp_plugins.datasets.ecg_file_kinds import ENDINGS, file_kind
from melp_plugins.datasets.ecgdatakit_files import READERS, read_with_ecgdatakit
from melp_plugins.datasets.folders import files_below
from melp_plugins.datasets.label_table import LabelTable, class_tasks, inner_table
from melp_plugins.datasets.sample_files import UNITS, Stated, read_csv, read_npy

LABELS = "labels.csv"
_MOST_BYTES = {"muse": 2**27, "aecg": 2**27, "sierra": 2**27}
_MOST_BYTES_ELSE = 2**31


@dataclass(frozen=True)
class _Listed:
    """A record, and whether its file's name tells who it is of."""

    info: mb.RecordInfo
    tells: bool


class ECGFiles(mb.Dataset):
    """A folder of files of ECG carts and archives.

    `rate`, `unit` and `order` (leads) are of CSV and NumPy files that do not state them.
    """

    citation = "the folder's owner"

    def __init__(
        self,
        *,
        labels: str = LABELS,
        classes: tuple[str, ...] = (),
        columns: tuple[str, ...] = (),
        leads: tuple[str, ...] = (),
        rate: float = 0.0,
        unit: str = "",
        order: tuple[str, ...] = (),
        record_names: str = "file",
        version: str = "1",
        licence: str = "its owner's",
    ) -> None:
        if rate < 0 or unit.casefold() not in ("", *UNITS):
            raise mb.UserError(f"rate={rate!r}, unit={unit!r}; wanted hertz, and uV, mV, V or nV")
        if record_names not in ("file", "digest"):
            raise mb.UserError(f"record_names={record_names!r}; wanted file or digest")
        self.labels, self.classes, self._found = inner_table(labels), classes, classes
        self.columns, self.leads = named_columns(columns), named_leads(leads)
        self.stated = Stated(rate, unit, order)
        self.record_names, self.version, self.licence = record_names, version, licence
        self._paths: dict[str, str] = {}  # of records whose names are digests

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        """One task, `all`, with the classes of the table; none where there is no table, or before it was read."""
        return class_tasks(self._found)

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        """Yield every record, with what its file and the table say of it; each file is read once for this."""
        files, others = _ecg_files(source, self.labels)
        remarks: list[str] = []
        rows: Iterable[mb.RecordInfo] = (mb.RecordInfo(record_id=name, path=name) for name in files)
        if self.labels != LABELS or (source / self.labels).exists():
            table = LabelTable(source / self.labels, columns=self.columns, classes=self.classes, files_tell=True)
            self._found, self.has_official_folds = table.classes, table.has_folds
            rows = [_named(row, files) for row in table.rows()]
            left = files.keys() - {row.path for row in rows}
            remarks += table.remarks
            remarks += [f"{len(left):,} ECG files are not in {self.labels} and left out, {min(left)!r} one"] if left else []
        elif not files:
            raise mb.UserError(f"{str(source)!r} holds no ECG file that is read; it has {_told(others)}{_advice(others)}")
        decimal: list[str] = []
        listed = [self._listed(source, row, row.path in files, decimal) for row in rows]
        remarks += decimal_remark(decimal)
        tell = sum(one.tells for one in listed)
        if tell:
            remarks.append(f"{tell:,} names of files tell who the patient is: all records are named by digests")
        if sum(others.values()):
            remarks.append(f"files that are no ECG were left out: {_told(others)}{_advice(others)}")
        hidden = bool(tell) or self.record_names == "digest"
        self._paths.clear()
        for one in listed:
            yield self._hidden(one.info) if hidden else one.info
        self.remarks = remarks

    def _listed(self, source: Path, row: mb.RecordInfo, is_there: bool, decimal: list[str]) -> _Listed:
        """Return what table and file say of a record; a file that cannot be read says nothing, here.

        A patient's number that lost its decimal is added to `decimal`.
        """
        try:
            file = self._read(source / (row.path or "")) if is_there else None
        except (mb.BadRecord, OSError):
            file = None
        identity = file.identity if file is not None else Identity()
        number = whole_id(row.patient_id or "", row.record_id, decimal)
        table = Identity(number=number, names=identity.names, born=identity.born, others=(identity.number, *identity.others))
        whose = table if who(number) else identity
        lines = file.report_lines if file is not None else []
        report = " ".join(filter(None, (table.blotted(line) for line in row.report.splitlines())))
        info = replace(
            row,
            patient_id=whose.patient_id,
            statements=row.statements | {f"report: {line.casefold()}" for line in lines},
            report=report if stated(report) else report_text(lines),
            age=kept_age(row.age if row.age is not None or file is None else file.age),
            sex=row.sex or (file.sex if file is not None else None),
            measurements=file.measurements if file is not None else {},
        )
        return _Listed(info, any(one.is_told_by(row.record_id) for one in (table, identity)))

    def _hidden(self, info: mb.RecordInfo) -> mb.RecordInfo:
        """Return a record under a digest of its name; only the dataset knows its file."""
        digest = pseudonym(f"file {info.record_id}")
        self._paths[digest] = info.path or ""
        return replace(info, record_id=digest, path=None)

    def files(self, source: Path, info: mb.RecordInfo) -> Iterator[str]:
        """Yield the name of the record's file."""
        yield self._paths.get(info.record_id, info.path or "")

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        """Return the record's rhythm strip, its leads by the names of `leads`."""
        name = self._paths.get(info.record_id, info.path or "")
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise mb.BadRecord("unsafe-path", "its name in the table leaves the folder")
        return self._strip(source / name)

    def read_file(self, path: Path) -> mb.Signal | None:
        """Return the rhythm strip in a file; None where its content is of no kind that is known here."""
        return self._strip(path) if path.is_file() and file_kind(path) else None

    def _strip(self, path: Path) -> mb.Signal:
        signal = without_calibration(self._read(path).signal)
        return replace(signal, leads=tuple(self.leads.get(lead, lead) for lead in signal.leads))

    def _read(self, path: Path) -> ECGFile:
        """Return what a file says.

        Raises:
            BadRecord: it is not there, of no known kind, or cannot be used.
        """
        if not path.is_file():
            raise mb.BadRecord("missing-file", "there is no such file in the folder")
        size = path.stat().st_size
        if size == 0:
            raise mb.BadRecord("zero-byte-file", "the file is empty")
        kind = file_kind(path)
        if size > (most := _MOST_BYTES.get(kind, _MOST_BYTES_ELSE)):
            raise mb.BadRecord("too-large", f"{size:,} bytes; wanted at most {most:,}")
        if kind in READERS:
            return read_with_ecgdatakit(path, kind, self.leads)
        if kind == "dicom":
            return read_dicom(path, self.leads)
        if kind == "csv":
            return read_csv(path, self.stated, self.leads)
        if kind == "npy":
            return read_npy(path, self.stated)
        meant = ENDINGS.get(path.suffix.casefold(), "ECG")
        raise mb.BadRecord("unsupported-format", f"no {meant} file of an ECG that is known here, by its content")


def _ecg_files(source: Path, labels: str) -> tuple[dict[str, str], Counter[str]]:
    """Return name -> kind of the files that are records or were meant to be, and how many others there are, by ending."""
    found: dict[str, str] = {}
    others: Counter[str] = Counter()
    for path in files_below(source, "*"):
        name = path.relative_to(source).as_posix()
        if path.name.startswith(".") or name == labels or not path.is_file():
            continue
        try:
            kind = file_kind(path)
        except OSError:
            kind = ""
        ending = path.suffix.casefold()
        if kind or ending in ENDINGS:
            found[name] = kind
        else:
            others[ending or "without ending"] += 1
    return found, others


def _named(row: mb.RecordInfo, files: Mapping[str, str]) -> mb.RecordInfo:
    """Return a row of the table under the name of its file, with or without whose ending the table has it.

    Raises:
        UserError: several files have that name.
    """
    if row.record_id in files:
        return row
    fit = [name for name in (f"{row.record_id}{ending}" for ending in _ENDINGS) if name in files]
    if len(fit) > 1:
        raise mb.UserError(f"record {row.record_id!r} of the table is {' or '.join(map(repr, fit))}; give it with its ending")
    return replace(row, record_id=fit[0], path=fit[0]) if fit else row


_ENDINGS = tuple(one for ending in (*ENDINGS, ".csv") for one in (ending, ending.upper()))


def _told(others: Counter[str]) -> str:
    return ", ".join(f"{number:,} {ending}" for ending, number in others.most_common(8)) or "no file"


def _advice(others: Counter[str]) -> str:
    return "; for WFDB take the dataset wfdb-folder" if others[".hea"] else ""


@mb.hookimpl
def melp_datasets() -> list[mb.Entry[mb.Dataset]]:
    """Offer a folder of files of ECG carts and archives."""
    return [
        mb.Entry(
            name="ecg-files",
            build=ECGFiles,
            summary="your own folder of MUSE, aECG, DICOM, SCP-ECG, Sierra, EDF, ... files, with labels.csv or without",
            source="https://ecgdatakit.ummisco.fr",
            license="its owner's",
        )
    ]
