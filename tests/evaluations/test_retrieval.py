"""Retrieval and patient identification: ranks against slow rewrites, ties, and what takes part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from melp_bench.errors import NotApplicable
from melp_bench.measure import measure
from melp_bench.results import Interval
from melp_plugins.evaluations.patient_identification import PatientIdentification, ranks_of_same
from melp_plugins.evaluations.retrieval import Retrieval, ranks_of_own
from melp_plugins.metrics.ranks import median_rank_metric, recall_metric, weighted_median

Make = Callable[..., Any]


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return random unit vectors."""
    return F.normalize(torch.tensor(np.random.default_rng(seed).standard_normal(shape)), dim=-1)


def test_a_rank_counts_the_candidates_that_are_nearer() -> None:
    queries, candidates = unit(30, 5), unit(30, 5, seed=1)
    for i, found in enumerate(ranks_of_own(queries, candidates).tolist()):
        nearer = [j for j in range(30) if float(queries[i] @ candidates[j]) > float(queries[i] @ candidates[i])]
        assert found == 1 + len(nearer)


def test_a_collapsed_model_finds_nothing() -> None:
    assert ranks_of_own(torch.ones(7, 3), torch.ones(7, 3)).tolist() == [7] * 7
    same = torch.tensor([0, 0, 1, 1])
    assert ranks_of_same(torch.ones(4, 2), same, torch.arange(4)).tolist() == [3] * 4  # two others come first


def test_each_distinct_report_asks_once_and_its_own_record_answers(make_task: Make, context_of: Make) -> None:
    made = make_task(records=60)
    reports = tuple(f"Report {i // 3}. " if i % 5 else "" for i in range(60))  # three records share one, some have none
    made = made.change(reports=reports)
    directions = {f"report {i}.": made.features[3 * i] for i in range(20)}

    def encode(texts: Sequence[str]) -> torch.Tensor:
        return F.normalize(torch.stack([directions[text.casefold()] for text in texts]), dim=-1)

    (row,) = Retrieval().expand(["s/x"])
    found = Retrieval().run(context_of(made, encode=encode), row)
    scored = [i for i in made.task.scored.tolist() if reports[i]]
    first = {reports[i]: i for i in reversed(scored)}
    assert found.record_ids.tolist() == sorted(made.task.record_ids[list(first.values())].tolist())
    exact = [n for n, i in enumerate(sorted(first.values())) if i % 3 == 0]  # these answer with their own vector
    assert (found.scores[0, exact] == 1).all()


def test_without_reports_it_is_not_applicable(make_task: Make, context_of: Make) -> None:
    (row,) = Retrieval().expand(["s/x"])
    with pytest.raises(NotApplicable, match="0 distinct reports"):
        Retrieval().run(context_of(make_task()), row)


def test_a_patient_is_found_by_a_record_that_is_nearly_the_same(make_task: Make, context_of: Make) -> None:
    made = make_task(records=80, split="cross-validate")  # records 2 i and 2 i + 1 are of one patient
    twins = made.features.clone()
    twins[1::2] = twins[::2] + 0.01
    (row,) = PatientIdentification().expand(["s/x"])
    found = PatientIdentification().run(context_of(made.change(twins)), row)
    assert found.scores.shape == (1, 80, 1)
    assert (found.scores == 1).all()
    apart = made.change(patients=np.array([f"p{i}" for i in range(80)]))
    with pytest.raises(NotApplicable, match="no patient has two"):
        PatientIdentification().run(context_of(apart), row)


def test_the_nearest_record_of_a_patient_counts_against_a_slow_rewrite() -> None:
    embedding, group = unit(20, 4), torch.arange(20) // 3
    queries = torch.tensor([i for i in range(20) if int((group == group[i]).sum()) > 1])
    for i, rank in zip(queries.tolist(), ranks_of_same(embedding, group, queries).tolist(), strict=True):
        others = [j for j in range(20) if j != i]
        best = max(float(embedding[i] @ embedding[j]) for j in others if group[j] == group[i])
        assert rank == 1 + sum(float(embedding[i] @ embedding[j]) >= best for j in others if group[j] != group[i])


def test_recall_and_median_of_known_ranks() -> None:
    ranks, ones = np.array([[1.0], [2.0], [6.0], [40.0]]), np.ones((4, 1))
    values = {k: float(recall_metric(k).function(ranks, ones, ones)[0, 0]) for k in (1, 5, 10)}
    assert values == {1: 0.25, 5: 0.5, 10: 0.75}
    assert weighted_median(ranks, ranks, ones)[0, 0] == 2.0
    weights = np.array([[0.0, 3.0], [0.0, 0.0], [1.0, 0.0], [4.0, 0.0]])
    assert weighted_median(ranks, ranks, weights)[0].tolist() == [40.0, 1.0]
    assert np.isnan(weighted_median(ranks, ranks, np.zeros((4, 1)))[0, 0])


def test_ranks_are_measured_with_an_interval(make_task: Make, context_of: Make) -> None:
    made = make_task(records=80, split="cross-validate", signal=0.0)
    (row,) = PatientIdentification().expand(["s/x"])
    found = PatientIdentification().run(context_of(made), row)
    outcome = measure(found, (recall_metric(10), median_rank_metric()), Interval(resamples=50))
    score = outcome.scores["recall-at-10"]
    assert 0 <= score.low <= score.value <= score.high <= 1
    assert outcome.metrics["median-rank"].bounds == (1.0, None)
    assert not outcome.metrics["median-rank"].higher_is_better
