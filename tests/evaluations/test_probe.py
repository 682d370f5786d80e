"""The batched probe against a slow rewrite of its rule: one problem at a time, torch's own layer, loss and gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from melp_plugins.evaluations.probe import Fitting, ProbeProblem, fit, standardise
from melp_plugins.evaluations.probing import problems_of

Make = Callable[..., Any]


def slow_fit(features: Tensor, labels: np.ndarray, problem: ProbeProblem, options: Fitting) -> tuple[Tensor, Tensor, int]:
    mean, deviation = features[problem.train].mean(0), features[problem.train].std(0, correction=0)
    x, y = (features - mean) / deviation, torch.tensor(labels, dtype=torch.float32)
    layer = nn.Linear(x.shape[1], y.shape[1])
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
    generator = np.random.default_rng([problem.seed, problem.part])
    best, kept, epoch_kept = -math.inf, (layer.weight, layer.bias), 0
    for epoch in range(options.epochs):
        turn = (1 + math.cos(math.pi * epoch / options.epochs)) / 2
        rate = options.final_learning_rate + (options.learning_rate - options.final_learning_rate) * turn
        optimizer.param_groups[0]["lr"] = rate
        steps = 0
        while steps < 10:
            order = generator.permutation(problem.labelled)
            for start in range(0, len(order), options.batch_size):
                rows = order[start : start + options.batch_size]
                optimizer.zero_grad()
                nn.functional.binary_cross_entropy_with_logits(layer(x[rows]), y[rows]).backward()
                optimizer.step()
                steps += 1
        quality = roc_auc_score(labels[problem.validation], layer(x[problem.validation]).detach().numpy())
        if quality > best:
            best, kept, epoch_kept = quality, (layer.weight.detach().clone(), layer.bias.detach().clone()), epoch + 1
        elif epoch + 1 - epoch_kept >= options.patience:
            break
    return kept[0].T, kept[1], epoch_kept


@pytest.mark.parametrize("fraction", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("split", ["holdout", "cross-validate"])
def test_the_batched_fit_is_the_slow_one(make_task: Make, split: str, fraction: float) -> None:
    made = make_task(records=240, split=split, signal=0.7)
    task, embedding = made.task, made.features
    options = Fitting(batch_size=16, epochs=12, patience=3)
    problems = problems_of(task, fraction, [0, 5])[:6]
    probes = fit(embedding, task.labels, problems, options)
    for problem, probe in zip(problems, probes, strict=True):
        weight, bias, epoch = slow_fit(embedding, task.labels, problem, options)
        assert probe.epoch == epoch
        torch.testing.assert_close(probe.weight, weight, atol=2e-4, rtol=1e-3)
        torch.testing.assert_close(probe.bias, bias, atol=2e-4, rtol=1e-3)


def test_a_fit_does_not_depend_on_what_is_fitted_beside_it(make_task: Make) -> None:
    made = make_task(records=240, split="cross-validate")
    task, embedding = made.task, made.features
    options = Fitting(batch_size=32)
    problems = problems_of(task, 0.3, [0, 1])
    together = fit(embedding, task.labels, problems, options)
    for i in (0, 7, 19):
        alone = fit(embedding, task.labels, [problems[i]], options)[0]
        torch.testing.assert_close(alone.weight, together[i].weight, atol=1e-5, rtol=1e-4)
        assert alone.epoch == together[i].epoch


def test_problems_of_unequal_size_are_each_fitted_on_their_own_records(make_task: Make) -> None:
    made = make_task(records=240)
    task, embedding = made.task, made.features
    train, validation = np.arange(160), np.arange(160, 240)
    problems = [ProbeProblem(0, 0, train, train[:n], validation) for n in (150, 17, 160, 9)]
    options = Fitting(batch_size=16, epochs=4)
    for problem, probe in zip(problems, fit(embedding, task.labels, problems, options), strict=True):
        weight, _, _ = slow_fit(embedding, task.labels, problem, options)
        torch.testing.assert_close(probe.weight, weight, atol=2e-4, rtol=1e-3)


def test_the_scale_and_offset_of_features_move_no_logit(make_task: Make) -> None:
    made = make_task()
    task, embedding = made.task, made.features
    options = Fitting(epochs=5)
    problems = problems_of(task, 1.0, [0])
    one = fit(embedding, task.labels, problems, options)[0]
    moved = embedding * torch.logspace(-3, 3, 12)
    two = fit(moved, task.labels, problems, options)[0]
    np.testing.assert_allclose(one.logits(embedding), two.logits(moved), atol=5e-3)


def test_a_channel_that_does_not_vary_is_set_to_zero() -> None:
    features = torch.tensor([[1.0, 7.0, 1e6, 2e-9], [3.0, 7.0, 1e6 + 0.25, 4e-9]])
    mean, scale = standardise(features)
    assert mean[:2].tolist() == [2.0, 7.0]
    assert scale[:3].tolist() == [1.0, 0.0, 0.0]  # the third varies by rounding alone
    assert scale[3] == pytest.approx(1e9)  # small, but it varies
    assert standardise(torch.ones(3, 2))[1].tolist() == [0.0, 0.0]


def test_without_a_class_to_rank_on_validation_the_loss_chooses(make_task: Make) -> None:
    made = make_task()
    task, embedding = made.task, made.features
    labels = task.labels.copy()
    labels[task.parts[0].validation] = False
    options = Fitting(epochs=3)
    probe = fit(embedding, labels, problems_of(task, 1.0, [0]), options)[0]
    logits = torch.tensor(probe.logits(embedding[task.parts[0].validation]))
    loss = nn.functional.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits))
    assert probe.quality == pytest.approx(-float(loss), abs=1e-5)
