"""What a run says of test records that pretraining has read, and what it refuses to score."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packagings import Given, at_100_hz, heart

from melp_bench.checkpoint import Manifest
from melp_bench.errors import UserError
from melp_bench.evaluations import TaskRecords
from melp_bench.leakage import refuse_shared_patients, seen, seen_in_pretraining
from melp_bench.progress import Silence
from melp_bench.protocol import Protocol
from melp_bench.recipe import load_recipe
from melp_bench.records import Signal
from melp_bench.runs.overlap import OverlapCheck
from melp_bench.runs.tasks import task_records
from melp_bench.store import Store, prepare

HEARTS = [heart(index) for index in range(10)]
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def made(
    home: Path,
    name: str,
    signals: Mapping[str, Signal],
    folds: Mapping[str, int],
    *,
    dataset: str = "",
    generated: bool = False,
) -> Store:
    given = Given(signals, folds, generated=generated)
    return prepare(given, name=dataset or name, source=home.parent, root=home / "stores" / name)


def corpus(home: Path, **options: Any) -> Store:
    """Return seven records: r0 to r3 train, r4 validates, r5 and r6 are never read by pretraining."""
    folds = dict(zip([f"r{k}" for k in range(7)], [1, 2, 8, 8, 9, 10, 10], strict=True))
    return made(home, "corpus", {f"r{k}": HEARTS[k] for k in range(7)}, folds, **options)


def test_records_of_another_store_are_found_by_signal_where_pretraining_read_them(home: Path) -> None:
    """r1 trains, r4 validates, r5 is there and not read, r8 is not there."""
    names = {"a": 1, "b": 4, "c": 5, "d": 8}
    test = made(home, "test", {n: at_100_hz(HEARTS[k], RNG) for n, k in names.items()}, dict.fromkeys(names, 10))
    found = seen_in_pretraining(corpus(home), test)
    assert found.how == "signal"
    assert found.positions is not None
    assert test.record_ids[found.positions].tolist() == ["a", "b"]


def test_within_one_store_a_test_record_that_repeats_a_training_record_is_found(home: Path) -> None:
    signals = {"train": HEARTS[0], "val": HEARTS[1], "again": at_100_hz(HEARTS[0], RNG), "other": HEARTS[2]}
    store = made(home, "one", signals, {"train": 3, "val": 9, "again": 10, "other": 10})
    found = seen_in_pretraining(store, store).positions
    assert found is not None
    assert store.record_ids[found].tolist() == ["train", "val", "again"]


def test_made_records_of_one_store_are_told_apart_without_their_signals(home: Path) -> None:
    store = corpus(home, generated=True)
    found = seen_in_pretraining(store, store)
    assert (found.how, found.positions is not None and found.positions.tolist()) == ("record", [0, 1, 2, 3, 4])
    assert not list((home / "stores").glob("*.npz"))


def test_large_stores_are_searched_by_the_command_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "AT_ONCE", 10)
    test = made(home, "test", {"a": HEARTS[1], "b": HEARTS[7], "c": HEARTS[8], "d": HEARTS[9]}, dict.fromkeys("abcd", 10))
    first = seen_in_pretraining(corpus(home), test)
    assert first.positions is None
    assert "melp-bench data leakage corpus test" in first.how
    seen.find_duplicates(corpus(home), test)
    after = seen_in_pretraining(corpus(home), test)
    assert after.positions is not None
    assert after.positions.tolist() == [0]


def test_patients_of_one_dataset_may_not_be_on_both_sides(home: Path) -> None:
    store = corpus(home)
    refuse_shared_patients(store, store, np.flatnonzero(store.folds == 10))
    with pytest.raises(UserError, match=r"5 patients of 'corpus', 'p-r0' the first, are in pretraining"):
        refuse_shared_patients(store, store, np.arange(len(store)))
    other = made(home, "slow", {f"r{k}": at_100_hz(HEARTS[k], RNG) for k in range(2)}, {"r0": 10, "r1": 10}, dataset="corpus")
    with pytest.raises(UserError, match="2 patients"):  # another packaging of the dataset, with other folds
        refuse_shared_patients(store, other, np.arange(2))
    named_alike = made(home, "elsewhere", {"r0": HEARTS[8]}, {"r0": 10})
    refuse_shared_patients(store, named_alike, np.arange(1))  # "p-r0" of another dataset is somebody else


# ----------------------------------------------------------------------------------------------------- facts of a row


def task(store: Store, split: str = "holdout") -> TaskRecords:
    rule = {"name": "rule", "revision": 1, "summary": "", "datasets": {"test": {"dataset": "given", "split": split}}}
    return task_records("test/all", Protocol.model_validate({**rule, "evaluations": []}), {"test": store}, {})


def manifest(corpora: list[str], **pretraining: Any) -> Manifest:
    return Manifest(recipe=load_recipe("random-init"), weights_sha256="0" * 64, corpora=corpora, pretraining=pretraining)


def test_a_row_counts_the_test_records_that_were_found(home: Path) -> None:
    store = corpus(home)
    signals = {"a": HEARTS[1], "b": HEARTS[5], "c": HEARTS[8], "never scored": HEARTS[2]}
    test = made(home, "test", signals, {"a": 10, "b": 10, "c": 10, "never scored": 4})
    check = OverlapCheck({"test": test}, Silence())  # the corpus is no part of the run: it is found where it is prepared
    facts = check.facts(manifest(["corpus"], data=store.fingerprint), test, task(test))
    assert facts == {"corpus": "corpus", "checked": True, "records": 3, "found": 1, "by": "signal"}
    every = check.facts(manifest(["corpus"], data=store.fingerprint), test, task(test, "cross-validate"))
    assert (every["records"], every["found"]) == (4, 2)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (manifest(["mimic-iv-ecg"]), "declared corpora only"),
        (manifest([], seed=0), "no pretraining data"),
        (manifest(["gone"], data="f" * 64), "the pretraining corpus is not prepared here"),
    ],
)
def test_a_row_says_why_nothing_was_checked(home: Path, given: Manifest, reason: str) -> None:
    (home / "stores" / "broken").mkdir(parents=True)
    (home / "stores" / "broken" / "store.json").write_text("{")
    store = corpus(home)
    assert OverlapCheck({"test": store}, Silence()).facts(given, store, task(store)) == {
        "corpus": None,
        "checked": False,
        "reason": reason,
    }


def test_a_row_that_would_score_pretraining_patients_is_refused(home: Path) -> None:
    store = corpus(home)
    check = OverlapCheck({"corpus": store}, Silence())
    given = manifest(["corpus"], data=store.fingerprint)
    assert check.facts(given, store, task(store))["found"] == 0
    with pytest.raises(UserError, match="5 patients of 'corpus'"):
        check.facts(given, store, task(store, "cross-validate"))
