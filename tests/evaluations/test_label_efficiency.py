"""Label efficiency: its points are those of the linear probe, and its score is their mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from melp_bench.errors import UserError
from melp_bench.measure import measure
from melp_bench.metrics import Metric, auroc, weighted_auroc
from melp_bench.results import Interval, Outcome
from melp_plugins.evaluations.label_efficiency import LabelEfficiency
from melp_plugins.evaluations.linear_probe import LinearProbe

Make = Callable[..., Any]
FRACTIONS = (0.05, 0.3, 1.0)
AUROC = (Metric("auroc", "macro AUROC", weighted_auroc),)


@pytest.mark.parametrize("split", ["holdout", "cross-validate"])
def test_a_point_is_the_linear_probe_on_that_fraction(make_task: Make, context_of: Make, split: str) -> None:
    made = make_task(records=300, split=split, signal=1.0)
    context = context_of(made)
    curve, probe = LabelEfficiency(fractions=FRACTIONS, seeds=(0, 1)), LinearProbe(solver="lbfgs", seeds=(0, 1))
    (row,) = curve.expand(["s/x"])
    found = curve.run(context, row)
    assert found.scores.shape == (2, len(made.task.scored), 9)
    assert found.classes[:4] == ("a at 5 %", "b at 5 %", "c at 5 %", "a at 30 %")
    probe = LinearProbe(solver="lbfgs", seeds=(0, 1), fractions=FRACTIONS)
    for place, single in enumerate(probe.expand(["s/x"])):
        alone = probe.run(context, single)
        np.testing.assert_allclose(found.scores[..., 3 * place : 3 * place + 3], alone.scores, rtol=1e-4, atol=1e-4)
        assert found.validation is not None
        assert alone.validation is not None
        mine = found.validation[0][..., 3 * place : 3 * place + 3]
        np.testing.assert_allclose(mine, alone.validation[0], rtol=1e-4, atol=1e-4)


def test_the_score_is_the_mean_height_of_the_curve_and_more_labels_make_it_higher(make_task: Make, context_of: Make) -> None:
    made = make_task(records=500, signal=1.0)
    curve = LabelEfficiency(fractions=FRACTIONS)
    (row,) = curve.expand(["s/x"])
    found = curve.run(context_of(made), row)
    outcome: Outcome = measure(found, AUROC, Interval(resamples=20))
    slow = [
        auroc(one[:, 3 * k : 3 * k + 3], made.task.labels[made.task.scored]).mean() for one in found.scores for k in range(3)
    ]
    assert outcome.scores["auroc"].value == pytest.approx(np.mean(slow))
    points = outcome.details["curve"]
    assert [point["fraction"] for point in points] == list(FRACTIONS)
    heights = np.array([point["auroc_by_seed"] for point in points])  # (F, S)
    np.testing.assert_allclose(heights.T.ravel(), slow)
    assert heights.mean(axis=1)[-1] > heights.mean(axis=1)[0] + 0.02
    assert np.ptp(heights[-1]) == 0
    labelled = [point["training_labels"] for point in points]
    assert labelled == sorted(labelled)


def test_fractions_rise_and_are_two_at_least() -> None:
    for wrong in ((1.0,), (0.5, 0.1), (0.0, 1.0), (0.5, 1.5)):
        with pytest.raises(UserError, match="wanted two or more that rise"):
            LabelEfficiency(fractions=wrong)
    assert [row.setting for row in LabelEfficiency().expand(["s/x"])] == ["1 to 100 %"]
