"""Neighbours against a slow rewrite of the rule, and its limits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from melp_bench.errors import NotApplicable, UserError
from melp_bench.results import Outcome
from melp_bench.splits import SplitPart
from melp_plugins.evaluations.knn import NearestNeighbours, neighbour_shares

Make = Callable[..., Any]
Score = Callable[..., Outcome]


def slow_shares(query: np.ndarray, known: np.ndarray, labels: np.ndarray, k: int, temperature: float) -> np.ndarray:
    cosine = [float(query @ one) / math.sqrt(float(query @ query) * float(one @ one)) for one in known]
    nearest = sorted(range(len(known)), key=lambda i: (-cosine[i], i))[:k]
    weights = [math.exp(cosine[i] / temperature) for i in nearest]
    return np.asarray(sum(w * labels[i] for w, i in zip(weights, nearest, strict=True)) / sum(weights))


@pytest.mark.parametrize("k", [1, 7, 50, 1000])
def test_the_shares_are_those_of_the_rule(k: int) -> None:
    generator = np.random.default_rng(k)
    queries, known = generator.standard_normal((9, 6)), generator.standard_normal((50, 6))
    labels = generator.random((50, 4)) < 0.3
    tensors = (F.normalize(torch.tensor(x), dim=-1) for x in (queries, known))
    found = neighbour_shares(*tensors, torch.tensor(labels, dtype=torch.float64), k, 0.2)
    expected = [slow_shares(query, known, labels, k, 0.2) for query in queries]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_of_equally_near_records_the_first_counts() -> None:
    one = torch.tensor([[1.0, 0.0]])
    labels = torch.tensor([[1.0], [0.0], [0.0]])
    assert neighbour_shares(one, one.repeat(3, 1), labels, 1, 0.1).item() == 1.0
    assert neighbour_shares(one, one.repeat(3, 1), labels.flip(0), 1, 0.1).item() == 0.0


def test_a_hot_softmax_over_all_records_is_the_share_of_a_class() -> None:
    generator = np.random.default_rng(0)
    known = F.normalize(torch.tensor(generator.standard_normal((40, 5))), dim=-1)
    labels = torch.tensor(generator.random((40, 2)) < 0.5, dtype=torch.float64)
    shares = neighbour_shares(known[:3], known, labels, 40, 1e9)
    torch.testing.assert_close(shares, labels.mean(dim=0).expand(3, -1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("split", ["holdout", "cross-validate"])
def test_classes_that_lie_apart_are_found_and_the_length_of_features_counts_nothing(
    make_task: Make, score: Score, split: str
) -> None:
    made = make_task(classes=("a",), signal=30.0, split=split)
    found = score(NearestNeighbours(), made)
    assert found.scores["auroc"].value > 0.99
    assert score(NearestNeighbours(), made.change(made.features * 64)) == found


def test_a_record_is_never_its_own_neighbour_nor_taught_by_test_records(
    make_task: Make, context_of: Callable[..., Any]
) -> None:
    made = make_task(split="cross-validate", signal=0.0)
    evaluation = NearestNeighbours(k=1)
    (row,) = evaluation.expand(["s/x"])
    scores = evaluation.run(context_of(made), row).scores[0]
    assert (scores != made.task.labels).any(axis=1).mean() > 0.3  # with itself as neighbour it would be right everywhere
    (part, *_) = made.task.parts
    only = made.change(parts=(SplitPart(part.train[:1], part.validation, part.test),))
    (alone,) = {tuple(line) for line in evaluation.run(context_of(only), row).scores[0].tolist()}
    assert alone == tuple(made.task.labels[part.train[0]].astype(float))


def test_scores_are_probabilities_and_options_are_checked(make_task: Make, context_of: Callable[..., Any]) -> None:
    evaluation = NearestNeighbours()
    (row,) = evaluation.expand(["s/x"])
    made = evaluation.run(context_of(make_task()), row)
    assert made.kind == "probability"
    assert 0 <= made.scores.min() <= made.scores.max() <= 1
    with pytest.raises(UserError, match="wanted both positive"):
        NearestNeighbours(k=0)
    part = make_task().task.parts[0]
    context = context_of(make_task().change(parts=(SplitPart(part.train, part.test[:0], part.test),)))
    with pytest.raises(NotApplicable, match="no validation record"):
        evaluation.run(context, row)
