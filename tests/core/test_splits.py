"""Splits are values: where records go, what stands in a key, and that no patient is on both sides."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from melp_bench.errors import UserError
from melp_bench.splits import FOLD_SPLITS, FOLDS, ListedSplit, Split, hash_fold

HOST = Path(__file__).parents[2]
IDS = np.array([f"r{n}" for n in range(200)])
PATIENTS = np.array([f"p{n // 2}" for n in range(200)])
BY_HASH = np.array([hash_fold(patient) for patient in PATIENTS.tolist()])


def listed(**lists: list[str]) -> ListedSplit:
    return ListedSplit(lists.get("train", []), lists.get("validation", []), lists.get("test", []), {"files": "abc"})


@pytest.mark.parametrize("name", FOLD_SPLITS)
def test_no_patient_is_on_two_sides_and_every_record_has_one(name: str) -> None:
    split: Split = FOLD_SPLITS[name]
    assert split.identity == name
    assert split.details(()) == {}
    for part in split.parts(IDS, PATIENTS, BY_HASH):
        sides = [part.train, part.validation, part.test]
        assert np.array_equal(np.sort(np.concatenate(sides)), np.arange(200))
        for i, one in enumerate(sides):
            for other in sides[:i]:
                assert not set(PATIENTS[one].tolist()) & set(PATIENTS[other].tolist())


def test_a_holdout_tests_the_last_fold_and_cross_validation_every_record_once() -> None:
    (part,) = FOLD_SPLITS["holdout"].parts(IDS, PATIENTS, BY_HASH)
    assert set(BY_HASH[part.train].tolist()) == set(range(1, 9))
    assert set(BY_HASH[part.validation].tolist()) == {9}
    assert set(BY_HASH[part.test].tolist()) == {10}
    parts = FOLD_SPLITS["cross-validate"].parts(IDS, PATIENTS, BY_HASH)
    assert len(parts) == len(FOLDS)
    assert np.array_equal(np.sort(np.concatenate([part.test for part in parts])), np.arange(200))
    for tested, part in zip(FOLDS, parts, strict=True):
        assert set(BY_HASH[part.test].tolist()) == {tested}
        assert set(BY_HASH[part.validation].tolist()) == {tested % 10 + 1}


def test_lists_decide_whatever_the_folds_say_and_what_is_in_none_is_in_no_part() -> None:
    split = listed(train=["r4", "r1", "elsewhere"], validation=["r7"], test=["r9", "r8"])
    (part,) = split.parts(IDS, PATIENTS, BY_HASH)
    assert [part.train.tolist(), part.validation.tolist(), part.test.tolist()] == [[1, 4], [7], [8, 9]]
    assert split.identity == {"files": "abc"}


def test_lists_that_part_a_patient_are_refused() -> None:
    with pytest.raises(UserError, match="1 patients are in several parts of the split, such as 'p3'"):
        listed(train=["r6"], test=["r7"]).parts(IDS, PATIENTS, BY_HASH)


def test_folds_are_spelt_in_one_file() -> None:
    """No other file of host or plugins compares folds with a number."""
    wrong = []
    for path in [*HOST.joinpath("melp_bench").rglob("*.py"), *HOST.joinpath("plugins").rglob("*.py")]:
        if path.name == "splits.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                about_folds = any("fold" in ast.unparse(side).lower() and "len(" not in ast.unparse(side) for side in sides)
                if about_folds and any(isinstance(side, ast.Constant) and isinstance(side.value, int) for side in sides):
                    wrong.append(f"{path.relative_to(HOST)}:{node.lineno} {ast.unparse(node)}")
    assert not wrong
