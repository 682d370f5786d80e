"""Representation: the three numbers are those of slow loops, and a record's influence is what leaving it out a little moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import melp_bench as mb
from melp_bench.errors import NotApplicable
from melp_bench.measure import measure
from melp_bench.plugins import discover
from melp_bench.pretrain.collapse import effective_rank
from melp_bench.results import Interval
from melp_plugins.evaluations.representation import Representation, distances_within, rank_values, uniformity_values

Make = Callable[..., Any]
METRICS = tuple(discover().metrics[name].build() for name in Representation.metrics)


def drawn(records: int, channels: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    spread = torch.linspace(1.0, 0.1, channels, dtype=torch.float64)
    return 0.3 + spread * torch.randn(records, channels, generator=generator, dtype=torch.float64)


def slow_uniformity(units: Tensor, weights: Tensor) -> float:
    """Return the log of the weighted mean over all pairs of two different records, counted once each."""
    top = bottom = 0.0
    for i in range(len(units)):
        for j in range(i):
            weight = float(weights[i] * weights[j])
            top += weight * float(torch.exp(-2 * (units[i] - units[j]).square().sum()))
            bottom += weight
    return float(np.log(top / bottom))


def test_the_means_are_the_numbers_of_the_papers() -> None:
    embedding = drawn(60, 8, 0)
    units = F.normalize(embedding, dim=-1)
    assert rank_values(embedding).mean() == pytest.approx(effective_rank(embedding), rel=1e-9)
    assert uniformity_values(units).mean() == pytest.approx(slow_uniformity(units, torch.ones(60)), rel=1e-9)
    patients = np.array([f"p{i // 2 if i < 40 else i}" for i in range(60)])
    aligned, paired = distances_within(units, patients)
    assert paired.tolist() == [True] * 40 + [False] * 20
    expected = [float((units[i] - units[i ^ 1]).square().sum()) for i in range(40)]
    np.testing.assert_allclose(aligned[:40], expected, rtol=1e-9)
    three = distances_within(units[:3], np.array(["a", "a", "a"]))[0]
    slow = [np.mean([float((units[i] - units[j]).square().sum()) for j in range(3) if j != i]) for i in range(3)]
    np.testing.assert_allclose(three, slow)


def test_closed_forms() -> None:
    assert rank_values(torch.eye(5, dtype=torch.float64)).mean() == pytest.approx(5)
    one = torch.ones(6, 3, dtype=torch.float64) / 3**0.5
    assert rank_values(one).mean() == pytest.approx(1)
    assert uniformity_values(one).mean() == pytest.approx(0, abs=1e-12)
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    assert uniformity_values(opposite).mean() == pytest.approx(-8)  # |x - y|^2 = 4


def test_influence_is_the_slope_of_the_number_over_a_records_weight() -> None:
    embedding, step = drawn(40, 6, 1), 1e-5
    units = F.normalize(embedding, dim=-1)
    ranks, uniform = rank_values(embedding), uniformity_values(units)
    for record in (0, 17, 39):
        weights = torch.ones(40, dtype=torch.float64)
        weights[record] += step
        moved = effective_rank(weights.sqrt()[:, None] * embedding)  # a record of weight w counts as w equal ones
        assert (moved - ranks.mean()) / step == pytest.approx((ranks[record] - ranks.mean()) / 40, abs=1e-4)
        moved = slow_uniformity(units, weights)
        assert (moved - uniform.mean()) / step == pytest.approx((uniform[record] - uniform.mean()) / 40, abs=1e-4)


def test_the_spread_that_influences_foretell_is_that_over_new_samples() -> None:
    numbers, foretold = [], []
    for seed in range(150):
        values = rank_values(drawn(150, 6, seed))
        numbers.append(values.mean())
        foretold.append(values.std(ddof=1) / 150**0.5)
    assert np.mean(foretold) == pytest.approx(np.std(numbers, ddof=1), rel=0.2)


def test_a_row_has_three_numbers_and_a_model_that_collapsed_is_seen(make_task: Make, context_of: Make) -> None:
    made = make_task(records=200)
    (row,) = Representation().expand(["s/x"])
    sound = measure(Representation().run(context_of(made), row), METRICS, Interval(resamples=50))
    assert set(sound.scores) == {"effective-rank", "uniformity", "alignment"}
    kept = made.features[made.task.scored]
    assert sound.scores["effective-rank"].value == pytest.approx(effective_rank(kept), rel=1e-6)
    assert sound.scores["effective-rank"].low < sound.scores["effective-rank"].value < sound.scores["effective-rank"].high
    point = torch.ones(12) + 1e-3 * (made.features - 5)
    fallen = measure(Representation().run(context_of(made.change(point)), row), METRICS, Interval(resamples=20))
    assert fallen.scores["effective-rank"].value < 1.1
    assert fallen.scores["uniformity"].value > -0.01
    assert fallen.scores["alignment"].value < 1e-3


def test_without_two_records_of_a_patient_alignment_is_not_measured(make_task: Make, context_of: Make) -> None:
    made = make_task(records=100)
    alone = made.change(patients=made.task.record_ids)
    (row,) = Representation().expand(["s/x"])
    outcome = measure(Representation().run(context_of(alone), row), METRICS, Interval(resamples=10))
    assert "alignment" in outcome.not_measured
    assert "alignment" not in outcome.scores
    with pytest.raises(NotApplicable, match="all embeddings are zero"):
        Representation().run(context_of(made.change(torch.zeros_like(made.features))), row)


def test_the_metrics_say_nothing_of_other_quantities() -> None:
    ids = np.array(["a", "b"])
    ages = mb.Predictions(np.array([[[60.0], [70.0]]]), np.array([[61.0], [69.0]]), ids, ids, ("age",), "value")
    outcome = measure(ages, (discover().metrics["mae"].build(), *METRICS), Interval(resamples=5))
    assert set(outcome.scores) == {"mae"}
