from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from melp_plugins.evaluations.subsets import label_subset, published_subset

REAL = os.environ.get("MELP_BENCH_REAL_ECG")

IDS = np.array([f"record-{i}" for i in range(1000)])
LABELS = np.random.default_rng(0).random((1000, 4)) < [0.5, 0.1, 0.004, 0.0]


def subset(fraction: float, seed: int = 0, ids: np.ndarray = IDS, labels: np.ndarray = LABELS) -> set[str]:
    return set(ids[label_subset(ids, labels, fraction, seed)].tolist())


@pytest.mark.parametrize("seed", range(3))
def test_subsets_of_one_seed_are_nested_and_of_the_size_asked_for(seed: int) -> None:
    sizes = [len(subset(fraction, seed)) for fraction in (0.01, 0.1, 1.0)]
    assert sizes == [10, 100, 1000]
    assert subset(0.01, seed) < subset(0.1, seed) < subset(1.0, seed)


def test_every_class_that_has_a_positive_keeps_one_at_any_fraction() -> None:
    for seed in range(20):
        kept = LABELS[label_subset(IDS, LABELS, 0.01, seed)].any(axis=0)
        assert kept.tolist() == LABELS.any(axis=0).tolist()
    one = label_subset(IDS, LABELS, 1e-6, 0)
    assert 1 <= len(one) <= 3
    assert LABELS[one].any(axis=0).sum() == 3


def test_the_subset_is_a_function_of_ids_fraction_and_seed_whatever_the_order_of_records() -> None:
    order = np.random.default_rng(1).permutation(1000)
    assert subset(0.1) == subset(0.1, ids=IDS[order], labels=LABELS[order])
    assert subset(0.1, 0) != subset(0.1, 1)


def test_seeds_draw_independently() -> None:
    assert len(subset(0.1, 0) & subset(0.1, 1)) < 30  # 10 expected


def test_a_record_that_comes_later_moves_at_most_one_other_out() -> None:
    ids = np.append(IDS[:-1], ["newcomer"])
    assert len(subset(0.1) - subset(0.1, ids=ids)) <= 2  # the one that left, and the one displaced


def test_the_subset_is_fair_to_records_of_common_classes() -> None:
    drawn = np.zeros(1000)
    for seed in range(200):
        drawn[label_subset(IDS, LABELS[:, :1], 0.1, seed)] += 1
    assert abs(drawn[LABELS[:, 0]].mean() / 200 - 0.1) < 0.005


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01])
def test_a_fraction_outside_zero_to_one_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        label_subset(IDS, LABELS, fraction, 0)


# ------------------------------------------------------------------------------------------------- published label subsets


@settings(max_examples=150, deadline=None)
@given(rows=st.integers(1, 20_000), fraction=st.sampled_from([0.01, 0.05, 0.1, 0.25, 0.5, 1.0]))
def test_melps_rule_is_pandas_sample_and_merls_is_scikit_learns_split(rows: int, fraction: float) -> None:
    table = pd.DataFrame({"row": np.arange(rows)})
    assert published_subset(rows, fraction, "melp").tolist() == table.sample(frac=fraction, random_state=42)["row"].tolist()
    drawn = published_subset(rows, fraction, "merl").tolist()
    if fraction == 1:  # the published code does not split then
        assert sorted(drawn) == list(range(rows))
    elif math.floor(fraction * rows) == 0:
        assert drawn == []
    else:
        assert drawn == train_test_split(table, train_size=fraction, random_state=42)[0]["row"].tolist()


@pytest.mark.parametrize("rule", ["melp", "merl"])
def test_a_published_rules_subsets_are_nested_too(rule: Literal["melp", "merl"]) -> None:
    few, more, every = (set(published_subset(17_084, fraction, rule).tolist()) for fraction in (0.01, 0.1, 1.0))
    assert few < more < every
    assert len(every) == 17_084


@pytest.mark.parametrize("rows", [17_084, 7_197, 16_832, 4_950, 16_546])  # of the published training files
def test_head_and_tail_of_one_permutation_share_no_record(rows: int) -> None:
    for fraction in (0.01, 0.1):
        head, tail = (published_subset(rows, fraction, rule) for rule in ("melp", "merl"))
        assert (len(head), len(tail)) == (round(fraction * rows), math.floor(fraction * rows))
        assert not set(head.tolist()) & set(tail.tolist())


@pytest.mark.skipif(not REAL, reason="set MELP_BENCH_REAL_ECG to the folder with ptb-xl/labels_all_records/")
@pytest.mark.parametrize(
    ("task", "classes", "empty"), [("super_class", 5, 0), ("sub_class", 23, 4), ("form", 19, 4), ("rhythm", 12, 5)]
)
def test_melps_one_per_cent_lacks_the_classes_that_it_is_known_to_lack_and_ours_none(
    task: str, classes: int, empty: int
) -> None:
    table = pd.read_csv(Path(str(REAL)) / f"ptb-xl/labels_all_records/ptbxl_{task}.csv.gz")
    train = table[table["melp_split"] == "train"].reset_index(drop=True)
    labels, ids = train.iloc[:, 7:].to_numpy() == 1, train["ecg_id"].astype(str).to_numpy(dtype=np.str_)
    assert labels.shape[1] == classes
    assert (~labels[published_subset(len(train), 0.01, "melp")].any(axis=0)).sum() == empty
    for seed in range(3):
        assert labels[label_subset(ids, labels, 0.01, seed)].any(axis=0).all()


@pytest.mark.parametrize("fraction", [0.0, 1.01])
def test_a_published_fraction_outside_zero_to_one_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        published_subset(100, fraction, "melp")


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_our_subsets_are_nested_and_keep_every_class_whatever_the_labels(data: st.DataObject) -> None:
    rows, classes = data.draw(st.integers(1, 300)), data.draw(st.integers(1, 8))
    rates = np.array(data.draw(st.lists(st.sampled_from([0.0, 0.005, 0.05, 0.5, 1.0]), min_size=classes, max_size=classes)))
    seed = data.draw(st.integers(0, 2**32 - 1))
    labels = np.random.default_rng(seed).random((rows, classes)) < rates
    ids = np.array([f"{seed}-{i}" for i in range(rows)])
    few, more, every = (label_subset(ids, labels, fraction, seed).tolist() for fraction in (0.01, 0.1, 1.0))
    assert set(few) <= set(more) <= set(every) == set(range(rows))
    assert len(few) == len(set(few)) >= max(1, round(0.01 * rows))
    assert labels[few].any(axis=0).tolist() == labels.any(axis=0).tolist()
