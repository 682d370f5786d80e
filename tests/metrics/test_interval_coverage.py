"""Intervals cover the truth as often as they say, where classes are frequent and where a class has one or two positives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from interval_coverage import BALANCES, Balance, Simulation, simulate
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from melp_bench.metrics import Bootstrap, Given, bootstrap
from melp_bench.metrics.intervals import logit_interval, supports, uncertainty
from melp_plugins.metrics.quantities import mae_metric
from melp_plugins.metrics.ranking import auroc

RHYTHM = Balance("rhythm-like", 400, (0.8, 0.08, 0.04, 0.01, 0.004))


@pytest.fixture(scope="module")
def rhythm() -> Simulation:
    return simulate(RHYTHM, 100, 120)


def test_the_known_truth_is_the_score_of_a_very_large_test_set() -> None:
    large = Balance("large", 400_000, (0.4, 0.02))
    scores, labels, _ = large.draw(np.random.default_rng(0))
    for c in range(2):
        assert large.truth("auroc")[c] == pytest.approx(roc_auc_score(labels[:, c], scores[:, c]), abs=0.004)
        assert large.truth("auprc")[c] == pytest.approx(average_precision_score(labels[:, c], scores[:, c]), abs=0.01)


def test_macro_intervals_hold_the_truth_nineteen_times_in_twenty() -> None:
    found = simulate(BALANCES[1], 100, 120).macro
    for metric in ("auroc", "auprc"):
        assert 0.89 <= found[metric, "used"].share <= 0.99  # 95 % expected; beyond has a chance of about 0.01


def test_of_rare_classes_percentiles_are_too_sure_and_these_intervals_are_not(rhythm: Simulation) -> None:
    assert rhythm.macro["auroc", "percentile"].share < 0.9
    assert rhythm.macro["auroc", "used"].share >= 0.9
    rare = [rhythm.classes["auroc", kind, group] for kind in ("percentile", "used") for group in ((1, 1), (2, 2))]
    percentile, used = (sum(one.share * one.made for one in two) / sum(one.made for one in two) for two in (rare[:2], rare[2:]))
    assert percentile < 0.6
    assert used > 0.88


def test_where_a_class_is_frequent_both_are_nearly_the_same() -> None:
    scores, labels, patients = BALANCES[0].draw(np.random.default_rng(1))
    (found,) = bootstrap([Given(auroc(), scores[None], labels)], patients, resamples=600)
    value, low, high = found.macro()
    drawn = np.nanquantile(np.nanmean(found.resampled, axis=1), [0.025, 0.975])
    assert (low, high) == pytest.approx(drawn, abs=0.15 * (high - low))
    assert low < value < high
    assert found.resampled_macro().std() == pytest.approx(found.resampled.mean(axis=1).std(), rel=0.05)


def test_support_is_patients_with_the_rarer_answer_or_all() -> None:
    labels = np.array([[1, 1], [1, 1], [0, 1], [0, 0]], dtype=bool)
    patients = np.array(["a", "a", "a", "b"])
    assert supports(labels, patients, of_records=False).tolist() == [1, 1]
    assert supports(labels, patients, of_records=True).tolist() == [2, 2]


def test_many_classes_of_one_variance_have_it_moderated_to_the_closed_form() -> None:
    """Of equal supports and variances there is nothing to moderate: v m / (m - 1); the mean of 4 independent ones has a 4th."""
    generator = np.random.default_rng(0)
    for support in (2, 5, 50):
        resampled = 0.8 + 0.05 * generator.standard_normal((20_000, 4))
        found = uncertainty(np.full(4, 0.8), resampled, np.full(4, float(support)), (-10.0, 10.0))
        wanted = 0.05**2 * support / (support - 1)
        assert found.variance == pytest.approx(np.full(4, wanted), rel=0.05)
        assert found.macro_variance == pytest.approx(wanted / 4, rel=0.05)
        assert found.macro_freedom == pytest.approx(4 * (4 + support - 1), rel=0.01)


def test_a_class_of_one_positive_takes_its_variance_from_the_others() -> None:
    resampled = np.column_stack([0.8 + 0.02 * np.random.default_rng(0).standard_normal(5000), np.full(5000, 0.9)])
    found = uncertainty(np.array([0.8, 0.9]), resampled, np.array([50.0, 1.0]), (0.0, 1.0))
    assert found.variance[1] == pytest.approx(0.02**2 * 50**2 / 49, rel=0.05)


def test_logit_intervals_stay_inside_are_symmetric_there_and_unknown_is_everything() -> None:
    low, high = logit_interval(0.9, 0.03**2, 10.0, 0.95, (0.0, 1.0), 100.0)
    t = stats.t.ppf(0.975, 10.0)
    assert math.log(high / (1 - high)) - math.log(9) == pytest.approx(t * 0.03 / 0.09)
    assert math.log(9) - math.log(low / (1 - low)) == pytest.approx(t * 0.03 / 0.09)
    assert logit_interval(0.9, math.nan, math.nan, 0.95, (0.0, 1.0), 100.0) == (0.0, 1.0)
    for support in (1.0, 5.0, 1e6):
        low, high = logit_interval(1.0, (0.5 / (support + 1)) ** 2, 4.0, 0.95, (0.0, 1.0), support)
        assert 0 <= low < high <= 1


def test_a_perfect_order_of_few_is_not_called_certain() -> None:
    labels = np.zeros((200, 1), bool)
    labels[:20] = True
    (found,) = bootstrap([Given(auroc(), labels[None].astype(float), labels)], np.arange(200).astype(str), resamples=50)
    value, low, high = found.of_class(0)
    assert value == high == 1.0
    assert 0.8 < low < 0.95  # the rule of three: 1 - 3 / 20


def test_nothing_is_known_of_one_patient_and_quantities_keep_their_percentiles() -> None:
    labels = np.arange(10)[:, None] < 5
    given = Given(auroc(), np.random.default_rng(0).random((1, 10, 1)), labels)
    _, low, high = bootstrap([given], np.full(10, "p"), resamples=10)[0].macro()
    assert (low, high) == (0.0, 1.0)
    truth = np.random.default_rng(1).random((50, 1))
    (found,) = bootstrap([Given(mae_metric(), np.zeros((1, 50, 1)), truth)], np.arange(50).astype(str), resamples=80)
    _, low, high = found.macro()
    assert (low, high) == pytest.approx(np.quantile(found.resampled[:, 0], [0.025, 0.975]))
    assert isinstance(found, Bootstrap)
    np.testing.assert_allclose(found.resampled_macro(), found.resampled[:, 0])
