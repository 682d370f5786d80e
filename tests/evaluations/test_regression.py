"""The ridge against its closed form, ages that are unknown, and metrics of quantities against scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score

from melp_bench.errors import NotApplicable, UserError
from melp_plugins.evaluations.regression import STRENGTHS, Regression, fit_ridge
from melp_plugins.metrics.quantities import mae_metric, r2_metric

Make = Callable[..., Any]


def aged(made: Any, noise: float = 0.0) -> Any:
    """Return the task with ages that are linear in the features but for noise."""
    rng = np.random.default_rng(0)
    ages = 60 + 5 * made.features[:, 0].numpy() - 3 * made.features[:, 3].numpy() + noise * rng.standard_normal(len(made))
    return made.change(ages=ages.astype(np.float64))


def test_every_strength_is_the_ridge_of_scikit_learn(make_task: Make) -> None:
    made = aged(make_task(), noise=4.0)
    (part,) = made.task.parts
    found = fit_ridge(made.features, made.task.ages, part)
    x = made.features.double().numpy()
    standard = (x - x[part.train].mean(axis=0)) / x[part.train].std(axis=0)
    errors = {}
    for strength in STRENGTHS:
        slow = Ridge(alpha=strength * len(part.train)).fit(standard[part.train], made.task.ages[part.train])
        errors[strength] = np.abs(slow.predict(standard[part.validation]) - made.task.ages[part.validation]).mean()
        if strength == found.strength:
            np.testing.assert_allclose(found.estimate(made.features), slow.predict(standard), atol=1e-8)
    assert errors[found.strength] == pytest.approx(min(errors.values()))


@pytest.mark.parametrize("split", ["holdout", "cross-validate"])
def test_what_is_linear_in_the_features_is_found(make_task: Make, context_of: Make, split: str) -> None:
    made = aged(make_task(split=split))
    (row,) = Regression().expand(["s/x"])
    found = Regression().run(context_of(made), row)
    assert (row.setting, found.kind, found.classes) == ("age", "value", ("age",))
    assert np.abs(found.scores[0] - found.labels).max() < 0.5


def test_records_of_unknown_age_take_no_part(make_task: Make, context_of: Make) -> None:
    made = aged(make_task())
    ages = made.task.ages.copy()
    ages[::3] = np.nan
    (row,) = Regression().expand(["s/x"])
    found = Regression().run(context_of(made.change(ages=ages)), row)
    assert np.isfinite(found.labels).all()
    assert set(found.record_ids) == {made.task.record_ids[i] for i in made.task.scored if i % 3}
    with pytest.raises(NotApplicable, match="no training record"):
        Regression().run(context_of(made.change(ages=np.full(len(made), np.nan))), row)


def test_no_other_quantity_is_known() -> None:
    with pytest.raises(UserError, match="wanted age"):
        Regression(quantity="height")


def test_metrics_are_those_of_scikit_learn_with_weights() -> None:
    rng = np.random.default_rng(1)
    truth, weights = rng.normal(60, 15, (50, 1)), rng.integers(0, 4, (50, 6)).astype(float)
    estimates = truth + rng.normal(0, 5, (50, 1))
    for column in range(6):
        told = {"sample_weight": weights[:, column]}
        mae, r2 = (m.function(estimates, truth, weights)[0, column] for m in (mae_metric(), r2_metric()))
        assert mae == pytest.approx(mean_absolute_error(truth, estimates, **told))
        assert r2 == pytest.approx(r2_score(truth, estimates, **told))


def test_r2_of_one_value_is_not_defined() -> None:
    assert np.isnan(r2_metric().function(np.ones((5, 1)), np.ones((5, 1)), np.ones((5, 1)))[0, 0])
