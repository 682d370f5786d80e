from __future__ import annotations

import numpy as np
import pytest

from melp_bench.evaluations.subsets import label_subset

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
