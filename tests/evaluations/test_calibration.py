"""Calibration: known temperatures are found, the curve is what a slow loop says, and corrections help where they can."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from melp_bench.errors import UserError
from melp_bench.measure import measure
from melp_bench.metrics.calibration import sigmoid
from melp_bench.plugins import discover
from melp_bench.results import Interval
from melp_plugins.evaluations.calibration import Calibration, corrected, reliability, temperature

Make = Callable[..., Any]
METRICS = tuple(discover().metrics[name].build() for name in ("ece", "brier"))


def test_the_temperature_by_which_logits_were_stretched_is_found() -> None:
    generator = np.random.default_rng(0)
    honest = generator.normal(-0.5, 1.5, (1, 20_000, 3))
    labels = generator.random((20_000, 3)) < sigmoid(honest)[0]
    for factor in (0.5, 1.0, 4.0):
        assert temperature(factor * honest, labels) == pytest.approx(factor, rel=0.03)
    assert temperature(honest, honest[0] > 0) == pytest.approx(0.01, rel=0.01)  # never wrong: as sure as it may be
    assert temperature(-honest, labels) == pytest.approx(100.0, rel=0.01)  # always wrong: as unsure


def test_the_curve_is_what_a_slow_loop_says() -> None:
    generator = np.random.default_rng(1)
    probabilities, labels = generator.random((2, 50, 3)), generator.random((50, 3)) < 0.4
    probabilities[0, 0, 0] = 1.0
    bins = reliability(probabilities, labels, 5)
    assert sum(one["count"] for one in bins) == probabilities.size
    for one in bins:
        inside = [
            (p, float(labels[n, c]))
            for (_, n, c), p in np.ndenumerate(probabilities)
            if one["from"] <= p < one["to"] or (p == one["to"] == 1.0)
        ]
        assert (one["count"], one["said"], one["true"]) == pytest.approx((len(inside), *np.mean(inside, axis=0)))
    assert [one["from"] for one in reliability(np.full((1, 4, 1), 0.5), labels[:4, :1], 4)] == [0.5]


@pytest.mark.parametrize("split", ["holdout", "cross-validate"])
def test_an_overfitted_probe_is_too_sure_and_its_correction_is_not(make_task: Make, context_of: Make, split: str) -> None:
    """With next to no penalty, and nearly as many channels as training records, the training part tells nothing of chance."""
    made = make_task(records=400, width=150, signal=1.0, split=split)
    context, evaluation = context_of(made), Calibration(strengths=(1e3,))
    errors, temperatures = {}, []
    for row in evaluation.expand(["s/x"]):
        found = evaluation.run(context, row)
        outcome = measure(found, METRICS, Interval(resamples=10))
        errors[row.setting] = outcome.scores["ece"].value, outcome.scores["brier"].value
        temperatures += found.details.get("temperatures", [])
        assert found.kind == "probability"
    assert min(temperatures) > 1.5
    for correction in ("temperature", "platt"):
        assert errors[correction][0] < errors[""][0]
        assert errors[correction][1] < errors[""][1]


def test_a_class_that_validation_says_nothing_of_stays_as_it_is_and_test_records_correct_nothing(make_task: Make) -> None:
    made = make_task(records=200)
    (part,) = made.task.parts
    task = made.relabelled(part.validation, 1, False).task
    generator = np.random.default_rng(2)
    logits = generator.normal(size=(1, 200, 3)) * 2

    def scorer(_: int, positions: Any) -> Any:
        return logits[:, positions]

    asked = corrected(scorer, task, "platt", 0, part.test)
    plain = corrected(scorer, task, "none", 0, part.test)
    np.testing.assert_array_equal(asked[..., 1], plain[..., 1])
    assert not np.allclose(asked[..., 0], plain[..., 0])
    flipped = made.relabelled(part.test, slice(None), True).relabelled(part.validation, 1, False).task
    np.testing.assert_array_equal(asked, corrected(scorer, flipped, "platt", 0, part.test))


def test_options_are_checked() -> None:
    with pytest.raises(UserError, match="the correction 'isotonic'; wanted none, temperature, platt"):
        Calibration(corrections=("isotonic",))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="bins = 0"):
        Calibration(bins=0)
