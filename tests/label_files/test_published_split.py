"""The published split: records, labels and parts of the label files, from the protocol to the row."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from label_csv import CODES, PARTS, TEST_ORDER, TRAIN_ORDER, ptb_xl_source, sub_parts, write_ptb_xl, write_sub
from pydantic import ValidationError

from melp_bench.cli import _run
from melp_bench.errors import NotApplicable, UserError
from melp_bench.evaluations import TaskRecords
from melp_bench.label_files import LabelFiles, layouts, read_files
from melp_bench.metrics import auroc
from melp_bench.protocol import Protocol
from melp_bench.results import ResultRecord, read_results
from melp_bench.runs.tasks import task_records
from melp_bench.store import Store, prepare
from melp_plugins.datasets.ptb_xl import PTBXL
from melp_plugins.evaluations.probe import Fitting, fit
from melp_plugins.evaluations.probing import problems_of
from melp_plugins.evaluations.subsets import published_subset

REAL = os.environ.get("MELP_BENCH_REAL_ECG")
PLAIN: dict[str, Any] = {
    "name": "plan",
    "revision": 1,
    "summary": "",
    "datasets": {"s": {"dataset": "synthetic"}},
    "evaluations": [{"name": "linear_probe", "tasks": ["s/x"]}],
}
RUN = """
name = "published-tiny"
revision = 1
summary = "for tests"
models = ["random-init"]

[datasets.p]
dataset = "ptb-xl"
options = { rate = RATE }
split = "published"
PINS

[datasets.own]
dataset = "ptb-xl"
options = { rate = RATE }

[datasets.synthetic]
dataset = "synthetic"
options = { num_records = 60, seed = 0 }

[pretrain]
dataset = "synthetic"
steps = 4
batch_size = 8

[interval]
resamples = 10

[[evaluations]]
name = "linear_probe"
tasks = ["p/sub"]
options = { fractions = [0.5, 1.0], seeds = [0], epochs = 2, subset = "melp" }

[[evaluations]]
name = "linear_probe"
tasks = ["p/sub", "own/sub"]
options = { fractions = [1.0], seeds = [0], epochs = 2 }

[[evaluations]]
name = "zero_shot"
tasks = ["p/sub"]
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Return a store of every record of `sub_parts` but the last of each part."""
    folder = tmp_path_factory.mktemp("ptb-xl")
    source = ptb_xl_source(folder / "source", {part: rows[:-1] for part, rows in sub_parts().items()})
    return prepare(PTBXL(rate=100), name="ptb-xl", source=source, root=folder / "store", workers=1)


def by_position(store: Store, task: TaskRecords) -> torch.Tensor:
    """Return features that are a record's sub-classes, in the order of the training file's columns."""
    had = {record: names for rows in sub_parts().values() for record, names in rows}
    return torch.tensor([[float(name in had[record]) for name in TRAIN_ORDER] for record in task.record_ids.tolist()])


PUBLISHED = Protocol.model_validate(
    {**PLAIN, "datasets": {"p": {"dataset": "ptb-xl", "split": "published"}}, "evaluations": []}
)


def of_files(store: Store, files: LabelFiles) -> TaskRecords:
    return task_records("p/sub", PUBLISHED, {"p": store}, {"p/sub": files})


def split_by_files(store: Store, folder: Path, *, order: dict[str, list[str]] | None = None) -> TaskRecords:
    if order is None:
        write_sub(folder, sub_parts())
    else:
        write_ptb_xl(folder, "sub_class", sub_parts(), order)
    return of_files(store, read_files(folder, layouts()["ptb-xl/sub"]))


def test_records_split_and_labels_are_the_files_and_not_the_stores(store: Store, tmp_path: Path) -> None:
    task = split_by_files(store, tmp_path)
    assert task.record_ids.tolist() == sorted(task.record_ids.tolist())
    (part,) = task.parts
    assert [len(some) for some in (part.train, part.validation, part.test)] == [23, 7, 7]
    assert task.classes == tuple(TEST_ORDER)
    assert task.published is not None
    assert task.published.train_rows == 24
    for name, positions, order in (
        ("train", part.train, TRAIN_ORDER),
        ("val", part.validation, TEST_ORDER),
        ("test", part.test, TEST_ORDER),
    ):
        rows = sub_parts()[name]
        expected = {record: [one in had for one in order] for record, had in rows[:-1]}
        found = dict(zip(task.record_ids[positions].tolist(), task.labels[positions].tolist(), strict=True))
        assert found == expected
        ids = [record for record, _ in rows]
        assert [ids[row] for row in task.published.rows[positions]] == task.record_ids[positions].tolist()
    assert store.record_ids[task.positions].tolist() == task.record_ids.tolist()


def test_columns_that_changed_places_ruin_their_classes_and_no_other(store: Store, tmp_path: Path) -> None:
    """The features hold the answer: a probe by position is right on the test file's columns only where they did not move."""
    fitting = Fitting(learning_rate=0.1, epochs=40, patience=40)

    def areas(task: TaskRecords) -> dict[str, float]:
        features, test = by_position(store, task), task.scored
        (probe,) = fit(features, task.labels, problems_of(task, 1.0, [0]), fitting)
        found = dict(zip(task.classes, auroc(probe.logits(features[test]), task.labels[test]).tolist(), strict=True))
        return {name: value for name, value in found.items() if value == value}

    there = split_by_files(store, tmp_path / "moved")
    same = split_by_files(store, tmp_path / "same", order=dict.fromkeys(PARTS, TRAIN_ORDER))
    assert there.published is not None
    assert there.published.misnamed == ("ISC", "AVB", "RAO/RAE")
    assert same.published is not None
    assert same.published.misnamed == ()
    moved = areas(there)
    assert areas(same) == dict.fromkeys(TRAIN_ORDER, 1.0)
    assert moved["NORM"] == 1.0
    assert max(value for name, value in moved.items() if name != "NORM") < 1.0


@pytest.mark.parametrize("rule", ["melp", "merl"])
def test_a_published_subset_is_drawn_over_all_rows_of_the_file(store: Store, tmp_path: Path, rule: Any) -> None:
    task = split_by_files(store, tmp_path)
    (problem,) = problems_of(task, 0.5, [0], rule)
    ids = [record for record, _ in sub_parts()["train"]]
    wanted = [ids[row] for row in published_subset(24, 0.5, rule)]
    assert task.record_ids[problem.labelled].tolist() == [record for record in wanted if record != ids[-1]]
    with pytest.raises(NotApplicable, match="none of them among the records"):
        problems_of(task, 0.001, [0], rule)
    (own,) = problems_of(replace(task, published=None), 0.5, [0], rule)
    train = task.record_ids[task.parts[0].train]
    assert task.record_ids[own.labelled].tolist() == train[published_subset(23, 0.5, rule)].tolist()


def test_files_of_other_records_or_with_a_patient_on_both_sides_are_refused(store: Store, tmp_path: Path) -> None:
    files = read_files(write_sub(tmp_path, sub_parts()), layouts()["ptb-xl/sub"])
    elsewhere = {part: replace(file, record_ids=tuple("x" + r for r in file.record_ids)) for part, file in files.parts.items()}
    with pytest.raises(UserError, match=r"has no record of 'ptbxl/sub_class/ptbxl_sub_class_train.csv', such as 'x1'"):
        of_files(store, replace(files, parts=elsewhere))
    patients = store.patient_ids.copy()
    try:
        store.patient_ids[store.record_ids == "33"] = "1"
        with pytest.raises(UserError, match="task 'p/sub': 1 patients are in several parts of the split, such as '1'"):
            of_files(store, files)
    finally:
        store.patient_ids[:] = patients


# ------------------------------------------------------------------------------------------------------- protocol, keys


def test_a_split_moves_a_protocols_hash_and_the_digests_it_states_do_not() -> None:
    rule = Protocol.model_validate(PLAIN)
    stated = {**PLAIN, "datasets": {"s": {"dataset": "synthetic", "split": "holdout"}}}
    assert Protocol.model_validate(stated).hash == rule.hash
    published = {**PLAIN, "datasets": {"s": {"dataset": "synthetic", "split": "published"}}}
    assert Protocol.model_validate(published).hash != rule.hash
    pinned = {**PLAIN, "datasets": {"s": {"dataset": "synthetic", "split": "published", "sha256": {"a.csv": "0"}}}}
    assert Protocol.model_validate(pinned).hash == Protocol.model_validate(published).hash  # the rows hold the digests found


@pytest.mark.parametrize(
    ("dataset", "more", "told"),
    [
        ({"view": "published"}, {}, "Extra inputs are not permitted"),
        ({"split": "random"}, {}, "Input should be 'holdout', 'cross-validate', 'published' or 'listed'"),
        ({"sha256": {"a.csv": "0"}}, {}, "which split = 'published' reads"),
        ({"split": "published"}, {"pretrain": {"dataset": "s", "steps": 1}}, "pretrains on 's'"),
    ],
)
def test_a_protocol_whose_splits_contradict_it_is_refused(dataset: dict[str, Any], more: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Protocol.model_validate({**PLAIN, "datasets": {"s": {"dataset": "synthetic", **dataset}}, **more})


# ------------------------------------------------------------------------------------------------------------ end to end


class Home:
    """A home with a prepared PTB-XL, label files and a protocol that reads them."""

    def __init__(self, folder: Path, source: Path, rate: int, parts: dict[str, list[tuple[str, list[str]]]]) -> None:
        self.folder, self.rate, self.splits = folder, rate, write_sub(folder / "data_split", parts)
        assert _run(["data", "prepare", "ptb-xl", "--from", str(source), "-o", f"rate={rate}", "--workers", "1"], False) == 0

    def run(self, *more: str, pins: str = "") -> int:
        path = self.folder / "published-tiny.toml"
        path.write_text(RUN.replace("RATE", str(self.rate)).replace("PINS", pins), encoding="utf-8")
        return _run(["run", str(path), "--set", "encoder.layers=1", "--workers", "1", "--device", "cpu", *more], verbose=False)

    def rows(self) -> dict[tuple[str, str, str], ResultRecord]:
        found = read_results(self.folder / "home" / "leaderboard" / "results")
        return {(row.evaluation, row.task, row.setting): row for row in found}


def parts_of_real_records(source: Path) -> dict[str, list[tuple[str, list[str]]]]:
    """Return the real records with invented sub-classes, in three parts, no patient in two of them."""
    import csv

    with (source / "ptbxl_database.csv").open(newline="", encoding="utf-8-sig") as file:
        table = list(csv.DictReader(file))
    there = [row for row in table if (source / f"{row['filename_hr']}.hea").is_file()]
    order = sorted({row["patient_id"] for row in there})
    parts: dict[str, list[tuple[str, list[str]]]] = {part: [] for part in PARTS}
    for i, row in enumerate(there):
        part = ("train", "train", "train", "val", "test")[order.index(row["patient_id"]) % 5]
        parts[part].append((row["ecg_id"], [TRAIN_ORDER[i % 4]]))
    return parts


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.skipif(not REAL, reason="MELP_BENCH_REAL_ECG"))])
def test_run_scores_by_the_files_and_says_so_in_the_row(
    real: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "home"))
    source = Path(str(REAL)) / "ptb-xl" if real else ptb_xl_source(tmp_path / "source", sub_parts())
    parts = parts_of_real_records(source) if real else sub_parts()
    home = Home(tmp_path, source, 500 if real else 100, parts)
    where = ["--published-splits", str(home.splits)]
    assert home.run() == 2
    assert "give the folder data_split that holds them with --published-splits DIR" in capsys.readouterr().err
    assert home.run(*where) == 0
    told = capsys.readouterr().out
    assert "labels p/sub: label files with SHA-256 of 3 of 3 unknown; the rows record it" in told
    rows = home.rows()
    digests = {file.relative_to(home.splits).as_posix() for file in home.splits.rglob("*.csv")}
    for setting, size in (("50 % (melp)", round(len(parts["train"]) / 2)), ("100 %", len(parts["train"]))):
        row = rows["linear_probe", "p/sub", setting]
        assert row.outcome is not None
        assert row.outcome.details["training_labels"] == [size]
        assert row.outcome.details["misnamed_columns"] == ["ISC", "AVB", "RAO/RAE"]
        positives = {name: sum(name in had for _, had in parts["test"]) for name in TEST_ORDER}
        assert {c.name: c.positives for c in row.outcome.classes} == positives
        assert {c.records for c in row.outcome.classes} == {len(parts["test"])}
        assert set(row.inputs.tasks["p/sub"]["split"]["published"]) == digests
        listed = row.outcome.details["label_files"]["p/sub"]["files"]
        assert {path: (f["rows"], f["records"]) for path, f in listed.items()} == {
            layouts()["ptb-xl/sub"].file(part): (len(parts[part]), len(parts[part])) for part in PARTS
        }
    assert ("linear_probe", "p/sub", "100 %") in rows
    own = rows["linear_probe", "own/sub", "100 %"]
    assert own.inputs.tasks["own/sub"]["split"] == "holdout"
    assert "label_files" not in (own.outcome.details if own.outcome else {})
    assert home.run(*where) == 0
    assert "0 rows to compute" in capsys.readouterr().out
    if real:
        return
    file = home.splits / layouts()["ptb-xl/sub"].file("test")
    file.write_bytes(file.read_bytes().rstrip(b"\n"))  # the same labels in another file
    assert home.run(*where, "--dry-run") == 0
    assert "3 rows to compute, 1 cached" in capsys.readouterr().out
    path = layouts()["ptb-xl/sub"].file("test")
    assert home.run(*where, "--dry-run", pins=f'sha256 = {{ "{path}" = "00" }}') == 2
    assert "and the protocol states 00" in capsys.readouterr().err
    assert home.run(*where, "--dry-run", pins='sha256 = { "chapman/chapman_test.csv" = "00" }') == 2
    assert "which no evaluation reads" in capsys.readouterr().err


def test_label_files_for_a_protocol_that_reads_none_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["run", "demo", "--published-splits", str(tmp_path), "--dry-run"], verbose=False) == 2
    assert "has no dataset with split = 'published'; leave out --published-splits" in capsys.readouterr().err
    assert _run(["run", "melp-2025-published", "--published-splits", str(tmp_path / "none"), "--dry-run"], verbose=False) == 2
    assert "no folder" in capsys.readouterr().err


def test_made_and_published_names_of_sub_classes_agree() -> None:
    members = PTBXL().tasks["sub"].members
    assert all(CODES[name] in members[name] for name in TRAIN_ORDER)
    assert np.unique(TRAIN_ORDER).tolist() == sorted(TEST_ORDER)
