from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from melp_bench.metrics import Given, bootstrap, difference_of, holm, paired_difference
from melp_plugins.metrics.ranking import auprc, auroc


def make(seed: int = 0, records: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.random((records, 2)) < 0.3
    return generator.standard_normal((records, 2)) + labels, labels, np.array([f"p{i // 2}" for i in range(records)])


def test_a_model_does_not_differ_from_itself() -> None:
    scores, labels, patients = make()
    same = paired_difference(scores, np.exp(scores), labels, patients, metric=auroc(), resamples=50)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    assert not same.separable


def test_swapping_the_models_turns_the_sign() -> None:
    scores, labels, patients = make()
    other = scores + np.random.default_rng(1).standard_normal(scores.shape)
    one = paired_difference(scores, other, labels, patients, metric=auprc(), resamples=80)
    two = paired_difference(other, scores, labels, patients, metric=auprc(), resamples=80)
    assert (one.value, one.low, one.high) == pytest.approx((-two.value, -two.high, -two.low), abs=1e-12)


def test_pairing_separates_models_whose_intervals_overlap() -> None:
    scores, labels, patients = make()
    worse = scores + 0.35 * np.random.default_rng(1).standard_normal(scores.shape)
    one, two = (result.macro() for result in bootstrap([Given(auroc(), s[None], labels) for s in (scores, worse)], patients))
    assert two[2] > one[1]  # the intervals overlap
    assert paired_difference(scores, worse, labels, patients, metric=auroc()).separable


def test_models_that_differ_by_chance_alone_are_rarely_called_different() -> None:
    called = 0
    for seed in range(60):
        scores, labels, patients = make(seed, records=150)
        noise = np.random.default_rng(1000 + seed).standard_normal((2, *scores.shape))
        called += paired_difference(
            scores + noise[0], scores + noise[1], labels, patients, metric=auroc(), resamples=150
        ).separable
    assert called <= 9  # 3 expected; more than 9 has a chance below 0.002


def test_unequal_resamples_and_labels_without_both_answers_are_refused() -> None:
    scores, labels, patients = make()
    with pytest.raises(ValueError, match="cannot be paired"):
        difference_of(0.0, np.zeros(3), np.zeros(4), 0.95)
    with pytest.raises(ValueError, match="nothing to compare"):
        paired_difference(scores, scores, np.zeros_like(labels), patients, metric=auroc(), resamples=5)


def test_holm_is_the_worked_example_and_never_below_the_raw_value() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    values = np.random.default_rng(0).random(20).tolist()
    adjusted = holm(values)
    assert all(a >= p for a, p in zip(adjusted, values, strict=True))
    assert sorted(adjusted) == [adjusted[i] for i in np.argsort(values)]
    assert max(adjusted) <= 1.0


def test_holm_calls_a_true_null_among_many_pairs_rarely() -> None:
    generator = np.random.default_rng(1)
    called = sum(min(holm(generator.random(10).tolist())) < 0.05 for _ in range(2000))
    assert 60 <= called <= 140  # 98 expected: 1 - 0.95 ** 10 with Holm's bound at 0.05 / 10 each


def test_the_p_value_agrees_with_the_interval_and_is_uniform_between_equal_models() -> None:
    values = []
    for seed in range(120):
        scores, labels, patients = make(seed, records=200)
        noise = np.random.default_rng(1000 + seed).standard_normal((2, *scores.shape))
        found = paired_difference(scores + noise[0], scores + noise[1], labels, patients, metric=auroc(), resamples=100)
        values.append(found.p)
    assert kstest(values, "uniform").pvalue > 0.001
    assert difference_of(0.0, np.zeros(4), np.zeros(4), 0.95).p == 1.0
    assert difference_of(0.1, np.full(4, np.nan), np.zeros(4), 0.95).p == 1.0
    assert difference_of(0.1, np.full(4, 0.1), np.zeros(4), 0.95).p == 0.0
