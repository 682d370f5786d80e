"""Reliability curves from kept predictions: against scikit-learn's, scipy's intervals, and records with a known fault."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from board_rows import row, score
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve

from melp_bench.board import board_files
from melp_bench.board.reliability import reliability_bins
from melp_bench.prediction_files import predictions_path, write_predictions
from melp_bench.predictions import Kind, Predictions


def predictions(kind: Kind = "probability", records: int = 4000, seeds: int = 1) -> Predictions:
    """Return well-calibrated probabilities of two classes, or their logits."""
    rng = np.random.default_rng(5)
    said = rng.uniform(0.02, 0.98, (records, 2))
    labels = rng.uniform(size=said.shape) < said
    scores = np.log(said / (1 - said)) if kind == "logit" else said
    ids = np.array([f"r{i}" for i in range(records)])
    return Predictions(np.repeat(scores[None], seeds, axis=0), labels, ids, ids, ("A", "B"), kind)


@pytest.mark.parametrize("kind", ["probability", "logit"])
def test_bins_are_those_of_scikit_learn_and_intervals_those_of_scipy(kind: Kind) -> None:
    made = predictions(kind, seeds=2)
    bins = reliability_bins(made)
    said = predictions().scores[0].ravel()
    frequency, probability = calibration_curve(made.labels.ravel(), said, n_bins=10)
    np.testing.assert_allclose([one.frequency for one in bins], frequency)
    np.testing.assert_allclose([one.probability for one in bins], probability, rtol=1e-6)
    assert sum(one.count for one in bins) == said.size
    for one in bins:
        exact = binomtest(round(one.frequency * one.count), one.count).proportion_ci(method="wilson")
        assert (one.low, one.high) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_who_says_too_much_lies_below_the_diagonal() -> None:
    made = predictions()
    boasting = Predictions(np.sqrt(made.scores), made.labels, made.record_ids, made.patients, made.classes, "probability")
    assert all(one.high < one.probability for one in reliability_bins(boasting) if 0.2 < one.probability < 0.8)


def test_cosines_and_quantities_are_no_probabilities() -> None:
    made = predictions()
    for kind in ("ranking", "value"):
        assert reliability_bins(Predictions(made.scores, made.labels, made.record_ids, made.patients, made.classes, kind)) == []


def test_the_page_draws_them_where_predictions_are_here_and_whole(tmp_path: Path) -> None:
    named = write_predictions(predictions(records=300), tmp_path)
    rows = [row("a", auroc=score(0.8, 0.1)).model_copy(update={"predictions": named}), row("b", auroc=score(0.7, 0.1))]
    with_folder = board_files(rows, results=tmp_path)["index.html"].decode()
    assert with_folder.count("Reliability of a, ") == 1
    assert "Reliability of b" not in with_folder
    assert "<b>Reliability</b>" not in board_files(rows)["index.html"].decode()
    path = predictions_path(tmp_path, named)
    path.write_bytes(path.read_bytes()[:-9])
    assert "<b>Reliability</b>" not in board_files(rows, results=tmp_path)["index.html"].decode()
