"""Small label files of the published form, and a small PTB-XL whose records they name."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import wfdb

from melp_bench.signal import LEADS

Rows = Sequence[tuple[str, Sequence[str]]]  # record, statements
PARTS = ("train", "val", "test")
TRAIN_ORDER = ["NORM", "AVB", "RAO/RAE", "ISC"]
TEST_ORDER = ["NORM", "ISC", "AVB", "RAO/RAE"]
CODES = {"NORM": "NORM", "AVB": "1AVB", "RAO/RAE": "RAO/RAE", "ISC": "ISC_"}  # a statement of each sub-class


def by_substring(name: str, statements: Sequence[str]) -> bool:
    return name in ",".join(statements)


def by_name(name: str, statements: Sequence[str]) -> bool:
    return name in statements


def write(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_csn(
    folder: Path,
    parts: Mapping[str, Rows],
    classes: Sequence[str],
    mark: Callable[[str, Sequence[str]], bool] = by_substring,
) -> Path:
    """Write chapman/chapman_*.csv, labelled as the published code does unless `mark` says otherwise."""
    for part, rows in parts.items():
        write(
            folder / f"chapman/chapman_{part}.csv",
            ["ecg_path", "age", "diagnose", *classes],
            [
                [f"/chapman/WFDBRecords/01/010/{record}.mat", 12, ",".join(had), *(int(mark(c, had)) for c in classes)]
                for record, had in rows
            ],
        )
    return folder


def write_ptb_xl(folder: Path, task: str, parts: Mapping[str, Rows], orders: Mapping[str, Sequence[str]]) -> Path:
    """Write ptbxl/TASK/ptbxl_TASK_*.csv, each with its own order of columns; every column is right by its header."""
    for part, rows in parts.items():
        write(
            folder / f"ptbxl/{task}/ptbxl_{task}_{part}.csv",
            ["ecg_id", "patient_id", "strat_fold", "filename_lr", "filename_hr", task, *orders[part]],
            [
                [
                    record,
                    f"{record}.0",
                    1,
                    f"lr/{record}_lr",
                    f"hr/{record}_hr",
                    str(list(had)),
                    *(int(c in had) for c in orders[part]),
                ]
                for record, had in rows
            ],
        )
    return folder


def write_sub(folder: Path, parts: Mapping[str, Rows]) -> Path:
    """Write the sub-class files with the published defect: validation and test have another order of columns than train."""
    return write_ptb_xl(folder, "sub_class", parts, {"train": TRAIN_ORDER, "val": TEST_ORDER, "test": TEST_ORDER})


def sub_parts(num_train: int = 24, num_other: int = 8) -> dict[str, list[tuple[str, list[str]]]]:
    """Return records "1", "2", ... with one or two sub-classes each, every class in every part."""
    sizes = {"train": num_train, "val": num_other, "test": num_other}
    parts: dict[str, list[tuple[str, list[str]]]] = {}
    record = 0
    for part, size in sizes.items():
        parts[part] = []
        for i in range(size):
            record += 1
            second = [TRAIN_ORDER[(i + 1) % 4]] if i % 3 == 0 else []
            parts[part].append((str(record), [TRAIN_ORDER[i % 4], *second]))
    return parts


def ptb_xl_source(folder: Path, parts: Mapping[str, Rows]) -> Path:
    """Write a PTB-XL of 100 Hz that holds the records of `parts`, each its own patient, in folds that are not the files'."""
    (folder / "records100").mkdir(parents=True)
    rows = []
    for part in PARTS:
        for record, had in parts[part]:
            codes = str({CODES[name]: 100.0 for name in had})
            rows.append(
                [record, f"{record}.0", "56.0", "1", "report", codes, int(record) % 10 + 1, "", f"records100/{record}_lr"]
            )
            noise = np.random.default_rng(int(record)).integers(-999, 999, (1000, 12)) / 1000.0
            wfdb.wrsamp(f"{record}_lr", 100, ["mV"] * 12, list(LEADS), noise, fmt=["16"] * 12, adc_gain=[1000.0] * 12,
                        baseline=[0] * 12, write_dir=str(folder / "records100"))  # fmt: skip
    header = ["ecg_id", "patient_id", "age", "sex", "report", "scp_codes", "strat_fold", "filename_hr", "filename_lr"]
    write(folder / "ptbxl_database.csv", header, rows)
    return folder
