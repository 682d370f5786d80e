"""A split as others publish it: CSV files that say of each record id which part it is in, ECGBench's folds among them.

A table has a column of record ids (`record_id`, or a usual name of a source), and one of parts (`default_split` or `split`:
train, val or validation, test) or of folds (`fold` or `strat_fold`: of n, the last is tested, the one before it validates). A
record whose `is_valid` is false is in no part. A folder stands for all tables below it.

Source of the names: ECGBench, https://github.com/vlbthambawita/ECGBench, whose fold files have them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from melp_bench.canonical import digest
from melp_bench.errors import UserError
from melp_bench.splits import ListedSplit

RECORD = ("record_id", "ecg_id", "study_id", "ecg_record_id")
PART = ("default_split", "split")
FOLD = ("fold", "strat_fold")
PARTS = {"train": "train", "val": "validation", "validation": "validation", "valid": "validation", "test": "test"}
FALSE = ("false", "0", "no")


def read_split(path: str) -> ListedSplit:
    """Return the split that the CSV file, or all those below the folder, at `path` list.

    Its identity is the digest of what they list, whatever the order.

    Raises:
        UserError: there is no such file, a column is missing, a part or fold is unknown, or a record is in two parts.
    """
    files = sorted(Path(path).rglob("*.csv")) if Path(path).is_dir() else [Path(path)]
    if not files:
        raise UserError(f"no CSV file below {path!r}, which split_file names")
    return _read(tuple((str(file), _changed(file)) for file in files))


def _changed(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError as error:
        raise UserError(f"the split_file {str(file)!r} cannot be read: {error.strerror}") from error


@cache
def _read(files: tuple[tuple[str, int], ...]) -> ListedSplit:
    said = [one for file, _ in files for one in _rows(Path(file))]
    folds = {int(value) for kind, _, value in said if kind == "fold"}
    found: dict[str, str] = {}
    for kind, record, value in said:
        part = value if kind == "part" else _of_fold(int(value), max(folds))
        if found.setdefault(record, part) != part:
            raise UserError(f"record {record!r} is in {found[record]} and in {part} of the split {files[0][0]!r}")
    lists = {part: sorted(record for record, its in found.items() if its == part) for part in ("train", "validation", "test")}
    if empty := [part for part, records in lists.items() if not records]:
        raise UserError(f"the split {files[0][0]!r} has no record in {', '.join(empty)}")
    return ListedSplit(lists["train"], lists["validation"], lists["test"], {"listed": digest(lists)})


def _of_fold(fold: int, folds: int) -> str:
    return "test" if fold == folds else "validation" if fold == folds - 1 else "train"


def _rows(file: Path) -> Iterator[tuple[str, str, str]]:
    """Yield "part" or "fold", record id, and part or fold of every row."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            table = csv.DictReader(text)
            columns = table.fieldnames or []
            record, part, fold = (next((name for name in names if name in columns), None) for names in (RECORD, PART, FOLD))
            if record is None or (part is None and fold is None):
                wanted = f"one of {', '.join(RECORD)}, and one of {', '.join((*PART, *FOLD))}"
                raise UserError(f"{str(file)!r} has the columns {', '.join(columns[:12])}; wanted {wanted}")
            for number, row in enumerate(table, 2):
                if (row.get("is_valid") or "true").strip().lower() in FALSE:
                    continue
                name = (row[record] or "").strip()
                value = _value(row.get(part) if part else None, row.get(fold) if fold else None)
                if not name or value is None:
                    raise UserError(
                        f"{str(file)!r}, line {number}: no record id, or neither a part nor a fold, in {dict(row)!r:.200}"
                    )
                yield (*value[:1], name, value[1])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{str(file)!r} cannot be read as CSV: {error}") from error


def _value(part: str | None, fold: str | None) -> tuple[str, str] | None:
    if part is not None:
        known = PARTS.get(part.strip().lower())
        return ("part", known) if known else None
    number = (fold or "").strip().removesuffix(".0")
    return ("fold", number) if number.isdecimal() and int(number) > 0 else None
