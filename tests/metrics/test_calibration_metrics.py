"""Probabilities, and how far they are from what happens: against scikit-learn and torchmetrics, and in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.metrics import brier_score_loss
from torchmetrics.functional.classification import binary_calibration_error

import melp_bench as mb
from melp_bench.metrics import Given, bootstrap
from melp_bench.metrics.calibration import platt, sigmoid
from melp_plugins.metrics.calibration import ece_metric, weighted_brier, weighted_ece


def make(seed: int = 0, records: int = 120) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.random((records, 3)) < 0.3
    return sigmoid(generator.standard_normal((records, 3)) + labels), labels


def test_the_brier_score_is_that_of_scikit_learn_under_every_set_of_weights() -> None:
    probabilities, labels = make()
    weights = np.random.default_rng(1).random((120, 4))
    wanted = [
        [brier_score_loss(labels[:, c], probabilities[:, c], sample_weight=weights[:, r]) for r in range(4)] for c in range(3)
    ]
    np.testing.assert_allclose(weighted_brier(probabilities, labels, weights), wanted, atol=1e-12)


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_the_calibration_error_is_that_of_torchmetrics_on_records_written_out(bins: int) -> None:
    probabilities, labels = make()
    weights = np.random.default_rng(1).integers(0, 3, (120, 3)).astype(float)
    found = weighted_ece(bins)(probabilities, labels, weights)
    for r in range(3):
        rows = np.repeat(np.arange(120), weights[:, r].astype(int))
        for c in range(3):
            target = torch.tensor(labels[rows, c]).long()
            wanted = binary_calibration_error(torch.tensor(probabilities[rows, c]), target, n_bins=bins, norm="l1")
            assert found[c, r] == pytest.approx(float(wanted), abs=1e-6)


def test_in_closed_form() -> None:
    labels = np.array([[True], [True], [False], [False]])
    ones = np.ones((4, 1))
    half = np.full((4, 1), 0.5)
    assert weighted_brier(half, labels, ones).item() == 0.25
    assert weighted_ece(15)(half, labels, ones).item() == 0.0  # half of them are true
    assert weighted_ece(15)(np.ones((4, 1)), labels, ones).item() == 0.5
    assert weighted_ece(15)(labels.astype(float), labels, ones).item() == weighted_brier(labels * 1.0, labels, ones).item() == 0


def test_an_interval_holds_its_value_also_where_resampling_makes_a_metric_worse() -> None:
    probabilities = np.full((40, 1), 0.5)
    labels = np.arange(40)[:, None] % 2 == 0  # calibrated exactly, and by chance on no resample
    (result,) = bootstrap([Given(ece_metric(), probabilities[None], labels)], np.arange(40).astype(str), resamples=200)
    assert result.resampled.mean() > 0.03
    value, low, high = result.macro()
    assert value == low == 0.0
    assert high > 0.1


def test_bins_have_a_name_of_their_own_and_there_is_at_least_one() -> None:
    assert (ece_metric(bins=10).name, ece_metric().name) == ("ece-10", "ece")
    with pytest.raises(mb.UserError, match="'bins' is 0; wanted at least 1"):
        ece_metric(bins=0)


def test_the_sigmoid_of_any_logit_is_that_of_scipy() -> None:
    logits = np.array([-1e4, -700.0, -3.0, 0.0, 3.0, 700.0, 1e4])
    np.testing.assert_allclose(sigmoid(logits), expit(logits), rtol=1e-12)


def test_platt_scaling_is_the_likeliest_sigmoid_of_targets_a_little_inside_zero_and_one() -> None:
    generator = np.random.default_rng(2)
    labels = generator.random((80, 1)) < 0.4
    validation = 5.0 + 0.3 * generator.standard_normal((80, 1)) + 0.2 * labels
    scores = np.linspace(4.0, 6.0, 9)[:, None]
    hits = int(labels.sum())
    target = np.where(labels[:, 0], (hits + 1) / (hits + 2), 1 / (80 - hits + 2))

    def cost(point: np.ndarray) -> float:
        p = np.clip(expit(point[0] * (validation[:, 0] - 5.0) + point[1]), 1e-12, 1 - 1e-12)
        return -float((target * np.log(p) + (1 - target) * np.log(1 - p)).sum())

    slope, offset = minimize(cost, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}).x
    found = platt(scores[None], validation[None], labels)[0, :, 0]
    np.testing.assert_allclose(found, expit(slope * (scores[:, 0] - 5.0) + offset), atol=1e-5)


def test_platt_scaling_keeps_the_order_and_is_finite_where_scores_separate() -> None:
    labels = np.array([[False]] * 5 + [[True]] * 5)
    validation = np.arange(10.0)[:, None]
    found = platt(np.array([[[-5.0], [4.5], [20.0]]]), validation[None], labels)[0, :, 0]
    assert 0 < found[0] < found[1] < found[2] < 1
    assert found[1] == pytest.approx(0.5)


def test_a_class_without_both_answers_in_validation_and_constant_scores_are_no_trap() -> None:
    labels = np.array([[False, False]] * 3 + [[True, False]])
    found = platt(np.zeros((1, 2, 2)), np.zeros((1, 4, 2)), labels)
    assert np.isnan(found[0, :, 1]).all()
    assert found[0, 0, 0] == pytest.approx((2 / 3 + 3 * 1 / 5) / 4, abs=1e-5)  # the mean target
