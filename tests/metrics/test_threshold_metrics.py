"""Metrics of yes and no against scikit-learn, in closed form, and with thresholds that test never saw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, recall_score

import melp_bench as mb
from melp_bench.measure import measure
from melp_bench.results import Interval
from melp_plugins.metrics.thresholds import (
    accuracy_metric,
    best_f1_thresholds,
    f1_metric,
    sensitivity_metric,
    specificity_thresholds,
    weighted_accuracy,
    weighted_f1,
    weighted_sensitivity,
)


def make(seed: int = 0, records: int = 90) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.random((records, 3)) < 0.3
    return np.round(generator.standard_normal((records, 3)) + labels, 1), labels


@pytest.mark.parametrize(
    ("function", "oracle"),
    [(weighted_f1, f1_score), (weighted_accuracy, accuracy_score), (weighted_sensitivity, recall_score)],
)
def test_every_set_of_weights_gives_what_scikit_learn_gives(function: object, oracle: object) -> None:
    scores, labels = make()
    weights = np.random.default_rng(1).integers(0, 3, (90, 4)).astype(float)
    found = function(scores, labels, weights)  # type: ignore[operator]
    wanted = [[oracle(labels[:, c], scores[:, c] >= 0, sample_weight=weights[:, r]) for r in range(4)] for c in range(3)]  # type: ignore[operator]
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_where_no_positive_was_drawn_there_is_no_f1_and_no_sensitivity_but_an_accuracy() -> None:
    scores, labels = np.array([[1.0], [-1.0], [2.0]]), np.array([[True], [False], [False]])
    weights = np.array([[0.0], [1.0], [1.0]])
    assert np.isnan(weighted_f1(scores, labels, weights)).all()
    assert np.isnan(weighted_sensitivity(scores, labels, weights)).all()
    assert weighted_accuracy(scores, labels, weights).tolist() == [[0.5]]


def test_a_specificity_is_kept_on_validation_by_the_lowest_threshold_that_keeps_it() -> None:
    for seed in range(5):
        scores, labels = make(seed, records=200)
        threshold = specificity_thresholds(0.9)(scores, labels)
        for c in range(3):
            negatives = scores[~labels[:, c], c]
            assert np.mean(negatives < threshold[c]) >= 0.9
            assert np.mean(negatives < np.nextafter(threshold[c], -np.inf)) < 0.9


def test_nineteen_of_twenty_negatives_are_ninety_five_per_cent() -> None:
    scores = np.arange(21.0)[:, None]
    labels = np.arange(21)[:, None] == 20
    assert specificity_thresholds(0.95)(scores, labels)[0] == np.nextafter(18.0, np.inf)


@pytest.mark.parametrize("choose", [best_f1_thresholds, specificity_thresholds(0.95)])
@pytest.mark.parametrize("answer", [True, False])
def test_a_class_without_both_answers_in_validation_has_no_threshold(choose: object, answer: bool) -> None:
    scores, labels = make()
    labels[:, 1] = answer
    assert np.isnan(choose(scores, labels)).tolist() == [False, True, False]  # type: ignore[operator]


def test_other_specificities_have_other_names_and_impossible_ones_are_refused() -> None:
    assert sensitivity_metric().label == "sensitivity at 95 % specificity"
    assert sensitivity_metric(specificity=0.9).name == "sensitivity-at-specificity-0.9"
    with pytest.raises(mb.UserError, match=r"specificity' is 1\.0; wanted"):
        sensitivity_metric(specificity=1.0)


def test_f1_and_accuracy_share_their_threshold() -> None:
    assert f1_metric().choose is accuracy_metric().choose


def test_thresholds_chosen_on_test_give_the_largest_f1_there_is() -> None:
    """Never less than thresholds of validation, and equal to a search over all thresholds by scikit-learn."""
    for seed in range(5):
        (scores, labels), validation = make(seed), make(seed + 100)
        ids = np.array([f"r{i}" for i in range(90)])
        given = mb.Predictions(scores[None], labels, ids, ids, ("a", "b", "c"), validation=(validation[0][None], validation[1]))
        found = measure(
            given, [f1_metric(), f1_metric(thresholds="test"), accuracy_metric(thresholds="test")], Interval(resamples=5)
        )
        best = [max(f1_score(labels[:, c], scores[:, c] >= t) for t in np.unique(scores[:, c])) for c in range(3)]
        assert found.scores["max-f1-on-test"].value == pytest.approx(np.mean(best))
        assert found.scores["max-f1-on-test"].value >= found.scores["max-f1"].value
        assert found.metrics["accuracy-on-test"].label == "macro accuracy (thresholds on test)"
        alone = replace(given, validation=None)
        told = measure(alone, [f1_metric(thresholds="test"), f1_metric()], Interval(resamples=5))
        assert list(told.not_measured) == ["max-f1"]
    with pytest.raises(mb.UserError, match="option 'thresholds' is 'train'; wanted validation or test"):
        f1_metric(thresholds="train")  # type: ignore[arg-type]
