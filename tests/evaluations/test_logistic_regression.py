"""Batched L-BFGS beside scikit-learn's logistic regression, one class and one strength at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import melp_bench as mb
from melp_plugins.evaluations.linear_probe import LinearProbe
from melp_plugins.evaluations.logistic_regression import LogisticFitting, fit_regressions, minimised
from melp_plugins.evaluations.probing import problems_of

Make = Callable[..., Any]
STRENGTHS = (1e-3, 0.05, 1.0, 30.0)


def test_every_class_and_strength_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 7)) * np.array([1, 1, 1, 3, 0.2, 1, 1])
    labels = x @ rng.standard_normal((7, 4)) + 1.5 * rng.standard_normal((300, 4)) > np.array([0, 1, 4, -2])
    found = minimised(torch.from_numpy(x), torch.from_numpy(labels), torch.tensor(STRENGTHS).double(), 1e-8, 1000).numpy()
    for weights, strength in zip(found, STRENGTHS, strict=True):
        for column, weight in enumerate(weights.T):
            wanted = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000).fit(x, labels[:, column])
            np.testing.assert_allclose(weight[:-1], wanted.coef_[0], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(weight[-1], wanted.intercept_[0], rtol=1e-4, atol=1e-5)


def test_classes_that_are_told_apart_and_channels_that_do_not_vary_end() -> None:
    x = torch.cat([torch.linspace(-1, 1, 40)[:, None], torch.zeros(40, 1)], dim=1).double()
    labels = torch.stack([x[:, 0] > 0, torch.zeros(40, dtype=torch.bool)], dim=1)  # one has no positive
    weights = minimised(x, labels, torch.tensor([1.0, 100.0]).double(), 1e-5, 500)
    assert weights.isfinite().all()
    assert (weights[:, 0, 0] > 1).all()
    assert not weights[:, 1].any(), "a channel that says nothing has no weight"
    assert (weights[:, -1, 1] < -5).all(), "what is never there is not expected"


@pytest.mark.parametrize("split", ["holdout", "cross-validate"])
def test_the_strength_is_the_one_that_ranks_validation_best(make_task: Make, split: str) -> None:
    made = make_task(records=240, split=split, signal=0.7)
    task, embedding = made.task, made.features
    problems = problems_of(task, 0.3, [0, 5])[:4]
    for problem, probe in zip(
        problems, fit_regressions(embedding, task.labels, problems, LogisticFitting(STRENGTHS)), strict=True
    ):
        train = embedding[problem.train].double().numpy()
        x = (embedding.double().numpy() - train.mean(axis=0)) / train.std(axis=0)
        logits = [
            np.stack(
                [
                    LogisticRegression(C=strength, tol=1e-8, max_iter=5000)
                    .fit(x[problem.labelled], answers[problem.labelled])
                    .decision_function(x)
                    for answers in task.labels.T
                ],
                axis=1,
            )
            for strength in STRENGTHS
        ]
        areas = [roc_auc_score(task.labels[problem.validation], scores[problem.validation]) for scores in logits]
        assert areas[probe.epoch - 1] == pytest.approx(max(areas), abs=1e-9)
        assert probe.quality == pytest.approx(max(areas), abs=1e-9)
        np.testing.assert_allclose(probe.logits(embedding), logits[probe.epoch - 1], rtol=2e-3, atol=2e-3)


def test_a_row_says_how_it_was_fitted_and_which_strengths_were_chosen(make_task: Make, score: Callable[..., Any]) -> None:
    evaluation = LinearProbe(fractions=(0.5,), seeds=(0, 1), solver="lbfgs", strengths=(0.01, 1.0))
    made = make_task(signal=0.7)
    (measurement,) = evaluation.expand([made.task.name])
    assert measurement.setting == "50 % (L-BFGS)"
    assert measurement.options["strengths"] == (0.01, 1.0)
    assert "epochs" not in measurement.options
    outcome = score(evaluation, made)
    assert set(outcome.details["strengths"]) <= {0.01, 1.0}
    assert len(outcome.details["strengths"]) == 2
    assert "chosen_epochs" not in outcome.details
    assert outcome.scores["auroc"].value > 0.6
    usual = LinearProbe(fractions=(0.5,))
    assert "solver" not in next(iter(usual.expand([made.task.name]))).options, "AdamW's rows are called what they were"


@pytest.mark.parametrize("options", [{"solver": "newton"}, {"strengths": ()}, {"strengths": (0.0, 1.0)}])
def test_a_solver_or_strength_that_is_none_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(mb.UserError, match=r"wanted (adamw, lbfgs|positive numbers)"):
        LinearProbe(**options)
