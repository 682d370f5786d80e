from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, roc_auc_score
from torchmetrics.functional.classification import multilabel_auroc, multilabel_average_precision

from melp_bench.metrics import auroc, average_precision, weighted_ranking


def make(seed: int, records: int = 80, classes: int = 4, decimals: int = 1) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.random((records, classes)) < 0.3
    labels[0], labels[1] = True, False
    return np.round(generator.standard_normal((records, classes)) + labels, decimals), labels


@pytest.mark.parametrize("decimals", [0, 1, 9])
@pytest.mark.parametrize("seed", range(3))
def test_both_metrics_are_those_of_scikit_learn_with_and_without_ties(seed: int, decimals: int) -> None:
    scores, labels = make(seed, decimals=decimals)
    np.testing.assert_allclose(auroc(scores, labels), roc_auc_score(labels, scores, average=None), atol=1e-12)
    np.testing.assert_allclose(
        average_precision(scores, labels), average_precision_score(labels, scores, average=None), atol=1e-12
    )


def test_both_metrics_are_those_of_torchmetrics() -> None:
    scores, labels = make(7)
    logits, target = torch.tensor(scores), torch.tensor(labels).long()
    np.testing.assert_allclose(auroc(scores, labels), multilabel_auroc(logits, target, 4, average=None), atol=1e-6)
    np.testing.assert_allclose(
        average_precision(scores, labels), multilabel_average_precision(logits, target, 4, average=None), atol=1e-6
    )


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.int64, 12, elements=st.integers(-3, 3)),
    hnp.arrays(np.bool_, 12),
    hnp.arrays(np.int64, (12, 3), elements=st.integers(0, 4)),
)
def test_whole_number_weights_are_repeated_records(scores: np.ndarray, positive: np.ndarray, times: np.ndarray) -> None:
    area, precision = weighted_ranking(scores.astype(float), positive, times.astype(float))
    for r in range(3):
        rows = np.repeat(np.arange(12), times[:, r])
        y, s = positive[rows], scores[rows]
        if y.all() or not y.any():
            assert np.isnan(area[r])
            assert np.isnan(precision[r])
            continue
        wins = [(a > b) + 0.5 * (a == b) for a in s[y] for b in s[~y]]
        assert area[r] == pytest.approx(np.mean(wins), abs=1e-12)
        assert precision[r] == pytest.approx(average_precision_score(y, s), abs=1e-12)


def test_fractional_weights_are_those_of_scikit_learn() -> None:
    scores, labels = make(3, classes=1)
    weights = np.random.default_rng(0).random((80, 5))
    area, precision = weighted_ranking(scores[:, 0], labels[:, 0], weights)
    for r in range(5):
        assert area[r] == pytest.approx(roc_auc_score(labels[:, 0], scores[:, 0], sample_weight=weights[:, r]), abs=1e-12)
        wanted = average_precision_score(labels[:, 0], scores[:, 0], sample_weight=weights[:, r])
        assert precision[r] == pytest.approx(wanted, abs=1e-12)


def test_a_perfect_order_is_one_its_reverse_zero_and_no_order_a_half() -> None:
    labels = np.array([[False], [False], [True], [True]])
    scores = np.array([[0.1], [0.2], [0.3], [0.4]])
    assert auroc(scores, labels)[0] == 1.0
    assert auroc(-scores, labels)[0] == 0.0
    assert auroc(np.zeros((4, 1)), labels)[0] == 0.5
    assert average_precision(scores, labels)[0] == 1.0
    assert average_precision(np.zeros((4, 1)), labels)[0] == 0.5  # the prevalence
    assert average_precision(-scores, labels)[0] == pytest.approx((1 / 3 + 2 / 4) / 2)


def test_only_the_order_of_scores_counts() -> None:
    scores, labels = make(5)
    np.testing.assert_array_equal(auroc(np.exp(scores), labels), auroc(scores, labels))
    np.testing.assert_array_equal(average_precision(np.exp(scores), labels), average_precision(scores, labels))
    np.testing.assert_allclose(auroc(-scores, labels), 1 - auroc(scores, labels), atol=1e-12)


def test_a_class_without_a_positive_or_without_a_negative_has_no_metric() -> None:
    scores, labels = make(1, classes=3)
    labels[:, 0], labels[:, 1] = False, True
    for metric in (auroc, average_precision):
        np.testing.assert_array_equal(np.isnan(metric(scores, labels)), [True, True, False])


def test_scores_that_are_not_finite_or_do_not_fit_are_refused() -> None:
    scores, labels = make(1)
    with pytest.raises(ValueError, match="wanted both"):
        auroc(scores[:, :2], labels)
    scores[3, 1] = np.nan
    with pytest.raises(ValueError, match="1 of 320 scores are not finite"):
        average_precision(scores, labels)
