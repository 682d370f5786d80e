"""DeLong's covariance: against all pairs one by one, closed forms, and, where patients have several records, simulation."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from melp_bench.metrics import auroc, delong, delong_difference, paired_difference
from melp_plugins.metrics.ranking import auroc as auroc_metric

Floats = NDArray[np.float64]


def make(seed: int = 0, records: int = 80, models: int = 3) -> tuple[Floats, NDArray[np.bool_]]:
    generator = np.random.default_rng(seed)
    labels = generator.random(records) < 0.35
    return np.round(generator.standard_normal((models, records)) + labels, 1), labels  # with ties


def slow(scores: Floats, labels: NDArray[np.bool_], patients: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return areas and covariance by visiting every pair, with sums over patients as Obuchowski writes them."""
    positives, negatives = np.flatnonzero(labels), np.flatnonzero(~labels)
    m, n = len(positives), len(negatives)
    wins = np.zeros((len(scores), m, n))
    for k, one in enumerate(scores):
        for i, x in enumerate(positives):
            for j, y in enumerate(negatives):
                wins[k, i, j] = 1.0 if one[x] > one[y] else 0.5 if one[x] == one[y] else 0.0
    areas = wins.mean(axis=(1, 2))
    names = sorted(set(patients.tolist()))
    x_sum, y_sum = np.zeros((2, len(scores), len(names)))
    for g, name in enumerate(names):
        mine_x, mine_y = patients[positives] == name, patients[negatives] == name
        x_sum[:, g] = (wins.mean(axis=2)[:, mine_x] - areas[:, None]).sum(axis=1)
        y_sum[:, g] = (wins.mean(axis=1)[:, mine_y] - areas[:, None]).sum(axis=1)
    with_x, with_y = len(set(patients[positives])), len(set(patients[negatives]))
    s10 = with_x / ((with_x - 1) * m) * x_sum @ x_sum.T
    s01 = with_y / ((with_y - 1) * n) * y_sum @ y_sum.T
    s11 = len(names) / (len(names) - 1) * x_sum @ y_sum.T
    return areas, s10 / m + s01 / n + (s11 + s11.T) / (m * n)


@pytest.mark.parametrize("each", [1, 3])
def test_it_is_the_covariance_of_all_pairs(each: int) -> None:
    scores, labels = make()
    patients = np.arange(len(labels)) // each
    areas, covariance = delong(scores, labels, patients.astype(str))
    wanted = slow(scores, labels, patients)
    np.testing.assert_allclose(areas, wanted[0], atol=1e-12)
    np.testing.assert_allclose(covariance, wanted[1], atol=1e-12)
    np.testing.assert_allclose(areas, [auroc(one[:, None], labels[:, None])[0] for one in scores])


def test_with_one_record_each_it_is_the_sample_covariance_of_the_placements() -> None:
    scores, labels = make()
    beats = (scores[:, labels][:, :, None] > scores[:, ~labels][:, None]) + 0.5 * (
        scores[:, labels][:, :, None] == scores[:, ~labels][:, None]
    )
    wanted = np.cov(beats.mean(axis=2)) / labels.sum() + np.cov(beats.mean(axis=1)) / (~labels).sum()
    np.testing.assert_allclose(delong(scores, labels)[1], wanted, atol=1e-12)
    np.testing.assert_allclose(delong(scores, labels, np.arange(len(labels)))[1], wanted, atol=1e-12)


def test_of_yes_and_no_it_is_the_variance_of_the_balanced_accuracy() -> None:
    generator = np.random.default_rng(1)
    labels = np.arange(70) < 25
    called = generator.random(70) < np.where(labels, 0.8, 0.3)
    sensitivity, specificity = called[labels].mean(), 1 - called[~labels].mean()
    areas, covariance = delong(called[None].astype(float), labels)
    assert areas[0] == pytest.approx((sensitivity + specificity) / 2)
    wanted = sensitivity * (1 - sensitivity) / 24 / 4 + specificity * (1 - specificity) / 44 / 4
    assert covariance[0, 0] == pytest.approx(wanted, rel=1e-12)


def test_a_perfect_order_has_no_variance_and_one_positive_none_that_is_known() -> None:
    labels = np.arange(20) >= 12
    assert delong(np.arange(20.0)[None], labels) == (pytest.approx([1.0]), pytest.approx(np.zeros((1, 1))))
    areas, covariance = delong(np.arange(20.0)[None], np.arange(20) == 7)
    assert areas[0] == pytest.approx(7 / 19)
    assert np.isnan(covariance).all()
    none = delong_difference(np.arange(20.0), -np.arange(20.0), np.arange(20) == 7)
    assert (none.low, none.high, none.p) == (-1.0, 1.0, 1.0)


def test_a_model_and_its_own_order_do_not_differ() -> None:
    scores, labels = make()
    same = delong_difference(scores[0], np.exp(scores[0]), labels)
    assert (same.value, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)


def test_its_interval_is_nearly_that_of_the_paired_bootstrap() -> None:
    generator = np.random.default_rng(2)
    labels = generator.random(600) < 0.3
    patients = np.array([f"p{i // 3}" for i in range(600)])
    shared = np.repeat(generator.standard_normal(200), 3)
    one, two = (labels + shared + spread * generator.standard_normal(600) for spread in (1.0, 1.3))
    closed = delong_difference(one, two, labels, patients)
    drawn = paired_difference(one[:, None], two[:, None], labels[:, None], patients, metric=auroc_metric(), resamples=2000)
    assert closed.value == pytest.approx(drawn.value)
    assert (closed.low, closed.high) == pytest.approx((drawn.low, drawn.high), abs=0.006)
    assert closed.p == pytest.approx(drawn.p, abs=0.02)


def test_patients_records_that_are_alike_are_not_counted_as_many() -> None:
    """The spread of the area over new test sets is that of the variance by patient; the variance by record is too small."""
    areas, by_patient, by_record = [], [], []
    for seed in range(300):
        generator = np.random.default_rng(seed)
        labels = np.repeat(generator.random(60) < 0.4, 4)
        scores = labels + np.repeat(generator.standard_normal(60), 4) + 0.3 * generator.standard_normal(240)
        patients = np.repeat(np.arange(60), 4)
        area, covariance = delong(scores[None], labels, patients)
        areas.append(area[0])
        by_patient.append(covariance[0, 0])
        by_record.append(delong(scores[None], labels)[1][0, 0])
    assert np.mean(by_patient) == pytest.approx(np.var(areas), rel=0.2)
    assert np.mean(by_record) < 0.4 * np.var(areas)


@pytest.mark.parametrize("labels", [np.zeros(5, bool), np.ones(5, bool), np.array([True, False])])
def test_labels_without_both_answers_and_other_shapes_are_refused(labels: NDArray[np.bool_]) -> None:
    with pytest.raises(ValueError, match="with a positive and a negative"):
        delong(np.zeros((1, 5)), labels)


def test_seeds_are_averaged_with_their_covariance() -> None:
    scores, labels = make(models=4)
    found = delong_difference(scores[:2], scores[2:], labels)
    areas, covariance = delong(scores, labels)
    contrast = np.array([0.5, 0.5, -0.5, -0.5])
    assert found.value == pytest.approx(contrast @ areas)
    assert found.high - found.value == pytest.approx(1.959964 * np.sqrt(contrast @ covariance @ contrast), rel=1e-5)
    twice = delong_difference(scores[[0, 0]], scores[[1, 1]], labels)
    once = delong_difference(scores[0], scores[1], labels)
    assert (twice.value, twice.low, twice.p) == pytest.approx((once.value, once.low, once.p))
