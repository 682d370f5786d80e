"""Outcomes: what every metric is given, what is left out and why, and what two rows can be compared by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, roc_auc_score

import melp_bench as mb
from melp_bench.measure import difference, measure, pack, unpack
from melp_bench.metrics import max_f1, paired_difference
from melp_bench.metrics.calibration import platt
from melp_bench.predictions import Predictions
from melp_bench.results import Interval, Outcome
from melp_plugins.metrics.calibration import brier_metric, ece_metric
from melp_plugins.metrics.ranking import auprc, auroc
from melp_plugins.metrics.thresholds import accuracy_metric, f1_metric, sensitivity_metric

ALL = (auroc(), auprc(), f1_metric(), accuracy_metric(), sensitivity_metric(), ece_metric(), brier_metric())
INTERVAL = Interval(resamples=60)
CLASSES = ("a", "b", "c")


Floats = NDArray[np.float64]


def predictions(seed: int = 0, kind: str = "logit", seeds: int = 2, records: int = 160) -> Predictions:
    generator = np.random.default_rng(seed)
    labels = generator.random((2 * records, 3)) < 0.35
    scores = generator.standard_normal((seeds, 2 * records, 3)) + labels
    return Predictions(
        scores=scores[:, :records],
        labels=labels[:records],
        record_ids=np.arange(records).astype(str),
        patients=np.array([f"p{i // 2}" for i in range(records)]),
        classes=CLASSES,
        kind=kind,  # type: ignore[arg-type]
        validation=(scores[:, records:], labels[records:]),
    )


def test_every_metric_is_the_mean_over_seeds_and_classes_of_what_scikit_learn_says() -> None:
    given = predictions()
    assert given.validation is not None
    outcome = measure(given, ALL, INTERVAL)
    wanted: dict[str, list[float]] = {"auroc": [], "max-f1": [], "accuracy": [], "brier": []}
    for scores, validation in zip(given.scores, given.validation[0], strict=True):
        threshold = max_f1(validation, given.validation[1])[1]
        for c in range(3):
            true, called = given.labels[:, c], scores[:, c] >= threshold[c]
            wanted["auroc"].append(roc_auc_score(true, scores[:, c]))
            wanted["max-f1"].append(f1_score(true, called))
            wanted["accuracy"].append(accuracy_score(true, called))
            wanted["brier"].append(brier_score_loss(true, 1 / (1 + np.exp(-scores[:, c]))))
    for name, values in wanted.items():
        assert outcome.scores[name].value == pytest.approx(np.mean(values), abs=1e-9), name
        assert outcome.scores[name].low < outcome.scores[name].value < outcome.scores[name].high
        by_class = [entry.scores[name].value for entry in outcome.classes]
        assert np.mean(by_class) == pytest.approx(outcome.scores[name].value)
    assert list(outcome.metrics) == [metric.name for metric in ALL]
    assert outcome.primary == "auroc"


def test_each_metric_has_the_number_and_the_interval_it_has_alone() -> None:
    together = measure(predictions(), ALL, INTERVAL)
    for metric in ALL:
        assert measure(predictions(), [metric], INTERVAL).scores == {metric.name: together.scores[metric.name]}


def test_a_ranking_is_calibrated_on_validation_and_by_nothing_else() -> None:
    given = predictions(kind="ranking")
    assert given.validation is not None
    calibrated = platt(given.scores, *given.validation)
    as_probabilities = replace(given, scores=calibrated, kind="probability")
    for metric in (brier_metric(), ece_metric()):
        assert measure(given, [metric], INTERVAL).scores == measure(as_probabilities, [metric], INTERVAL).scores


def test_what_cannot_be_measured_is_left_out_with_its_reason() -> None:
    bare = replace(predictions(kind="ranking"), validation=None)
    outcome = measure(bare, ALL, INTERVAL)
    assert set(outcome.scores) == {"auroc", "auprc"}
    assert "no validation record to calibrate" in outcome.not_measured["ece"]
    assert "no validation record to choose them on" in outcome.not_measured["accuracy"]
    assert set(outcome.scores) | set(outcome.not_measured) == set(outcome.metrics)
    with pytest.raises(mb.NotApplicable, match="macro accuracy needs thresholds"):
        measure(bare, [accuracy_metric(), auroc()], INTERVAL)


def test_a_class_that_validation_says_nothing_of_is_in_no_mean_that_needs_it() -> None:
    given = predictions()
    assert given.validation is not None
    scores, labels = given.validation
    labels = labels.copy()
    labels[:, 1] = False
    outcome = measure(replace(given, validation=(scores, labels)), ALL, INTERVAL)
    assert outcome.excluded == []
    assert "accuracy" not in outcome.classes[1].scores
    assert "auroc" in outcome.classes[1].scores
    kept = [outcome.classes[c].scores["accuracy"].value for c in (0, 2)]
    assert outcome.scores["accuracy"].value == pytest.approx(np.mean(kept))


def test_a_class_without_both_answers_is_excluded_from_every_metric() -> None:
    given = predictions()
    labels = given.labels.copy()
    labels[:, 2] = False
    labels[:, 0] = np.arange(len(labels)) < 6
    outcome = measure(replace(given, labels=labels), ALL, INTERVAL)
    assert (outcome.excluded, outcome.rare) == (["c"], ["a"])
    assert outcome.classes[2].scores == {}
    with pytest.raises(mb.NotApplicable, match="no class has both"):
        measure(replace(given, labels=np.zeros_like(labels)), ALL, INTERVAL)


def mean_absolute(scores: Floats, labels: Floats, weights: Floats) -> Floats:
    found: Floats = np.abs(scores - labels).T @ weights / weights.sum(axis=0)
    return found


def worst_class(scores: Floats, labels: Floats, weights: Floats) -> Floats:
    found: Floats = mean_absolute(scores, labels, weights).max(axis=0)
    return found


UNBOUNDED = {"higher_is_better": False, "bounds": (0.0, np.inf), "needs": "values"}
ERROR = mb.Metric("error", "mean absolute error", mean_absolute, **UNBOUNDED)  # type: ignore[arg-type]
WORST = mb.Metric("worst", "worst error", worst_class, **UNBOUNDED)  # type: ignore[arg-type]


def estimates(seed: int = 0, spread: float = 9.0) -> Predictions:
    given = predictions(seed, kind="value", seeds=1)
    ages = np.random.default_rng(5).normal(60, 20, given.labels.shape)
    noise = np.random.default_rng(seed).normal(0, spread, given.scores.shape)
    return replace(given, labels=ages, scores=ages + noise, validation=None)


def test_estimates_have_metrics_of_estimates_alone_also_one_number_over_all_without_bounds() -> None:
    given = estimates()
    outcome = measure(given, [ERROR, WORST, auroc()], INTERVAL)
    distances = np.abs(given.scores[0] - given.labels).mean(axis=0)
    assert outcome.scores["error"].value == pytest.approx(distances.mean())
    assert outcome.scores["worst"].value == pytest.approx(distances.max())
    assert [set(entry.scores) for entry in outcome.classes] == [{"error"}] * 3
    assert outcome.metrics["error"].bounds == (0.0, None)
    assert not outcome.metrics["error"].higher_is_better
    assert "estimates of quantities" in outcome.not_measured["auroc"]
    assert outcome.excluded == outcome.rare == []
    assert Outcome.model_validate_json(outcome.model_dump_json()) == outcome


@pytest.mark.parametrize(("make", "metric"), [(predictions, auroc()), (estimates, ERROR)])
def test_two_rows_know_their_paired_difference(make: object, metric: mb.Metric) -> None:
    one, two = (make(seed) for seed in (1, 2))  # type: ignore[operator]
    two = replace(two, labels=one.labels)
    first, second = (measure(given, [metric], INTERVAL) for given in (one, two))
    wanted = paired_difference(one.scores, two.scores, one.labels, one.patients, metric=metric, resamples=60)
    found = difference(first, second, INTERVAL.level)
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((wanted.value, wanted.low, wanted.high), rel=1e-5)


def test_rows_of_other_records_labels_classes_draws_or_metrics_are_not_compared() -> None:
    given = predictions()
    first = measure(given, [auroc()], INTERVAL)
    others = [
        measure(replace(given, patients=np.roll(given.patients, 1)), [auroc()], INTERVAL),
        measure(replace(given, labels=~given.labels), [auroc()], INTERVAL),
        measure(replace(given, classes=("a", "b", "d")), [auroc()], INTERVAL),
        measure(given, [auroc()], Interval(resamples=60, seed=1)),
        measure(given, [auprc()], INTERVAL),
    ]
    assert difference(first, first, 0.95) is not None
    assert all(difference(first, other, 0.95) is None for other in others)


def test_packed_resamples_keep_seven_digits_of_any_size_and_what_is_not_defined() -> None:
    values = np.array([0.0, 1.0, 0.123456789, -1234.56789, 1e30, np.nan])
    np.testing.assert_allclose(unpack(pack(values)), values, rtol=1e-7)


def test_what_makes_no_outcome_is_refused() -> None:
    given = predictions()
    with pytest.raises(mb.UserError, match="wanted at least one, and each name once"):
        measure(given, [auroc(), auroc()], INTERVAL)
    with pytest.raises(ValueError, match="not finite"):
        measure(replace(given, scores=np.full_like(given.scores, np.nan)), ALL, INTERVAL)
    with pytest.raises(ValueError, match="for 2 classes; wanted"):
        measure(replace(given, classes=("a", "b")), ALL, INTERVAL)
    with pytest.raises(ValueError, match="wanted 0 to 1"):
        measure(replace(given, kind="probability"), [brier_metric()], INTERVAL)


def test_a_metric_that_returns_another_shape_is_named() -> None:
    wrong = mb.Metric("wrong", "wrong", lambda scores, labels, weights: np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"metric 'wrong' returned shape \(2, 2\); wanted \(3, 1\)"):
        measure(predictions(), [wrong], INTERVAL)


def test_a_metric_that_no_record_defines_is_left_out_with_its_reason() -> None:
    never = mb.Metric("never", "never", lambda scores, labels, weights: np.full((3, weights.shape[1]), np.nan))
    assert "not defined" in measure(predictions(), [auroc(), never], INTERVAL).not_measured["never"]
