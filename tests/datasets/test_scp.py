"""SCP statements and PTB-XL's tasks, against the files PTB-XL and the published splits come with."""

from __future__ import annotations

import ast
import csv
import gzip
import os
import re
from pathlib import Path

import pytest

from melp_plugins.datasets import scp

SIZES = {"super": 5, "sub": 23, "form": 19, "rhythm": 12, "all": 71}
PUBLISHED = {"super": "super_class", "sub": "sub_class", "form": "form", "rhythm": "rhythm"}
NUM_LEADING_COLUMNS = 7


@pytest.fixture(scope="module")
def ptb_xl() -> Path:
    root = os.environ.get("MELP_BENCH_REAL_ECG")
    if not root:
        pytest.skip("MELP_BENCH_REAL_ECG does not name a folder of real records")
    return Path(root) / "ptb-xl"


def _published(folder: Path, task: str) -> tuple[list[str], dict[int, dict[str, int]]]:
    """Return the classes and the labels by record of a published label file."""
    with gzip.open(folder / "labels_all_records" / f"ptbxl_{PUBLISHED[task]}.csv.gz", "rt", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        classes = list(reader.fieldnames or [])[NUM_LEADING_COLUMNS:]
        return classes, {int(row["ecg_id"]): {c: int(row[c]) for c in classes} for row in reader}


@pytest.mark.parametrize(("task", "size"), SIZES.items())
def test_every_task_has_the_published_number_of_classes(task: str, size: int) -> None:
    assert len(scp.tasks()[task].classes) == size


@pytest.mark.parametrize("task", SIZES)
def test_every_class_has_four_to_six_different_prompts_that_no_other_class_has(task: str) -> None:
    prompts = scp.tasks()[task].prompts
    assert set(prompts) == set(scp.tasks()[task].classes)
    owners: dict[str, str] = {}
    for name, wordings in prompts.items():
        assert 4 <= len(wordings) <= 6, name
        for wording in wordings:
            assert owners.setdefault(wording.lower(), name) == name, f"{wording!r} serves {owners[wording.lower()]} and {name}"
        assert len(set(wordings)) == len(wordings), name


def test_prompts_speak_english_and_not_in_codes() -> None:
    codes = {c.lower() for c in scp.statements()}
    for task in scp.tasks().values():
        for wording in (w for wordings in task.prompts.values() for w in wordings):
            assert not codes & set(re.findall(r"[\w/()]+", wording.lower())), wording
            assert len(wording) < 90, wording


def test_every_diagnostic_statement_is_in_one_superclass_and_every_other_in_none() -> None:
    members = list(scp.tasks()["super"].members.values())
    for code, statement in scp.statements().items():
        assert sum(code in group for group in members) == (1 if statement.super_class else 0)
        assert bool(statement.super_class) == bool(statement.sub_class)
        assert statement.super_class or statement.is_form or statement.is_rhythm


def test_the_table_is_that_of_ptb_xl(ptb_xl: Path) -> None:
    with (ptb_xl / "scp_statements.csv").open(encoding="utf-8") as file:
        theirs = {row[""]: row for row in csv.DictReader(file)}
    assert set(theirs) == set(scp.statements())
    for code, row in theirs.items():
        ours = scp.statements()[code]
        assert (ours.super_class, ours.sub_class) == (row["diagnostic_class"], row["diagnostic_subclass"]), code
        assert (ours.is_form, ours.is_rhythm) == (row["form"] == "1.0", row["rhythm"] == "1.0"), code


@pytest.mark.parametrize("task", PUBLISHED)
def test_class_names_are_those_of_the_published_label_files(ptb_xl: Path, task: str) -> None:
    assert set(_published(ptb_xl, task)[0]) == set(scp.tasks()[task].classes)


@pytest.mark.parametrize("task", PUBLISHED)
def test_labels_by_the_aggregation_equal_the_published_labels(ptb_xl: Path, task: str) -> None:
    classes, published = _published(ptb_xl, task)
    members, compared = scp.tasks()[task].members, 0
    for name in ("ptbxl_database.csv", "extra_metadata_rows.csv", "labels_all_records/ptbxl_report_en_500_fold10.csv"):
        with (ptb_xl / name).open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                codes = set(ast.literal_eval(row["scp_codes"]))
                expected = published.get(int(row["ecg_id"]))
                ours = {c: int(bool(members[c] & codes)) for c in classes}
                assert ours == (expected or dict.fromkeys(classes, 0)), row["ecg_id"]
                compared += 1
    assert compared > 500
