from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from melp_bench.canonical import canonical_json
from melp_bench.errors import NotApplicable, UserError
from melp_bench.measure import difference, pack, unpack
from melp_bench.metrics import auroc
from melp_bench.results import Outcome
from melp_bench.splits import cross_validation, holdout
from melp_plugins.evaluations.linear_probe import LinearProbe
from melp_plugins.evaluations.probe import USUAL, fit
from melp_plugins.evaluations.probing import problems_of

Make = Callable[..., Any]
Probe = Callable[..., Outcome]


@pytest.fixture
def probe(score: Callable[..., Outcome]) -> Probe:
    """Return a function from a task and a fraction of its labels to the outcome of the probe."""
    return lambda made, fraction=1.0: score(LinearProbe(fractions=(fraction,)), made)


def shuffled(made: Any, seed: int = 0) -> Any:
    order = np.random.default_rng(seed).permutation(len(made))
    return made.change(made.features[order], positions=np.argsort(order))


@pytest.mark.parametrize("split", ["holdout", "cross-validate"])
def test_separable_features_are_learnt(make_task: Make, probe: Probe, split: str) -> None:
    result = probe(make_task(signal=12.0, split=split))
    assert result.scores["auroc"].value > 0.995
    assert result.scores["auprc"].value > 0.99


@pytest.mark.parametrize("split", ["holdout", "cross-validate"])
def test_the_interval_on_noise_covers_a_half(make_task: Make, probe: Probe, split: str) -> None:
    score = probe(make_task(signal=0.0, records=1000, split=split)).scores["auroc"]
    assert score.low < 0.5 < score.high


def test_more_labels_teach_more(make_task: Make, probe: Probe) -> None:
    task = make_task(records=3000, width=40, signal=1.0)
    few, some, every = (probe(task, f).scores["auroc"].value for f in (0.01, 0.1, 1.0))
    assert few + 0.03 < some < every


@pytest.mark.parametrize("split", ["holdout", "cross-validate"])
def test_the_order_of_records_moves_nothing(make_task: Make, probe: Probe, split: str) -> None:
    task = make_task(signal=1.0, split=split)
    assert probe(shuffled(task), 0.1) == probe(task, 0.1) == probe(task, 0.1)


def test_test_labels_never_reach_the_fit(make_task: Make) -> None:
    made = make_task(split="holdout")
    task, test = made.task, made.task.scored
    labels = task.labels.copy()
    labels[test] = np.random.default_rng(1).permutation(labels[test])
    assert (labels != task.labels).any()
    for fraction in (0.05, 1.0):
        logits = [
            fit(made.features, y, problems_of(replace(task, labels=y), fraction, [0, 1]), USUAL)[1].logits(made.features)
            for y in (task.labels, labels)
        ]
        np.testing.assert_array_equal(*logits)


def test_test_records_never_reach_the_fit_of_a_fold(make_task: Make) -> None:
    made = make_task(split="cross-validate")
    task, part = made.task, made.task.parts[3]
    features, labels = made.features.clone(), task.labels.copy()
    features[part.test], labels[part.test] = 1e3, ~labels[part.test]
    problems = [p for p in problems_of(task, 0.5, [0]) if p.part == 3]
    changed = [p for p in problems_of(replace(task, labels=labels), 0.5, [0]) if p.part == 3]
    one = fit(made.features, task.labels, problems, USUAL)[0]
    two = fit(features, labels, changed, USUAL)[0]
    assert torch.equal(one.weight, two.weight)
    assert not set(part.test) & (set(part.train) | set(part.validation))


def test_pooled_folds_are_not_hurt_by_their_own_scales(make_task: Make, probe: Probe) -> None:
    """Pooled AUROC lies near the mean of those within folds, as it must when every fold asks the same question."""
    made = make_task(records=1000, signal=1.5, split="cross-validate")
    tests = [part.test for part in made.task.parts]
    probes = fit(made.features, made.task.labels, problems_of(made.task, 1.0, [0]), USUAL)
    within = [auroc(p.logits(made.features[t]), made.task.labels[t]).mean() for p, t in zip(probes, tests, strict=True)]
    assert abs(probe(made).scores["auroc"].value - np.mean(within)) < 0.015


def test_every_record_is_scored_once_in_a_cross_validation(make_task: Make, probe: Probe) -> None:
    result = probe(make_task(split="cross-validate"))
    assert result.details["records"] == 400
    assert result.details["patients"] == 200
    assert len(result.details["chosen_epochs"]) == 10 * 3


def test_the_value_is_the_mean_over_seeds_and_their_spread_is_told(make_task: Make, probe: Probe) -> None:
    result = probe(make_task(signal=1.0), 0.05)
    by_seed = result.details["auroc_by_seed"]
    assert len(by_seed) == 3
    assert len(set(by_seed)) > 1
    assert result.scores["auroc"].value == pytest.approx(np.mean(by_seed), abs=1e-12)
    assert result.details["auroc_sd_over_seeds"] == pytest.approx(np.std(by_seed, ddof=1))


def test_classes_without_a_test_positive_or_a_training_positive_are_listed(make_task: Make, probe: Probe) -> None:
    made = make_task()
    (part,) = made.task.parts
    result = probe(made.relabelled(part.test, 0, False).relabelled(part.train, 1, False))
    assert result.excluded == ["a"]
    assert result.classes[0].scores == {}
    assert result.details["classes_without_training_positive"] == ["b"]
    assert result.scores["auroc"].value == pytest.approx(
        np.mean([row.scores["auroc"].value for row in result.classes if row.scores])
    )


def test_an_empty_part_and_features_that_are_not_finite_say_so(make_task: Make, probe: Probe) -> None:
    task, folds = make_task(), np.arange(400) // 2 % 10 + 1
    with pytest.raises(NotApplicable, match="no test record"):
        probe(task.change(parts=holdout(np.minimum(folds, 9))))
    with pytest.raises(NotApplicable, match="no training record"):
        probe(task.change(parts=cross_validation(folds % 2 + 1)))
    broken = task.features.clone()
    broken[3, 2] = torch.inf
    with pytest.raises(UserError, match="model 'mute' gave record embeddings that are not finite for 1 of 400"):
        probe(task.change(broken))


def test_two_rows_tell_whether_they_are_separable_from_their_details_alone(make_task: Make, probe: Probe) -> None:
    good, poor = make_task(records=1200, signal=2.0), make_task(records=1200, signal=0.5)
    first, second = probe(good), probe(poor)
    between = difference(first, second, 0.95)
    assert between is not None
    assert between.separable
    assert between.value == pytest.approx(first.scores["auroc"].value - second.scores["auroc"].value)
    itself = difference(first, first, 0.95)
    assert itself is not None
    assert (itself.low, itself.high) == (0.0, 0.0)
    assert difference(first, probe(make_task(records=1200, seed=1)), 0.95) is None  # other labels


def test_packed_resamples_are_kept_to_eight_millionths() -> None:
    values = np.append(np.random.default_rng(0).random(1000), [0.0, 1.0, np.nan])
    np.testing.assert_allclose(unpack(pack(values)), values, atol=8e-6)


def test_its_rows_are_one_per_task_and_fraction_and_know_nothing_of_each_other() -> None:
    rows = list(LinearProbe().expand(["s/x", "t/y"]))
    assert [(row.task, row.setting) for row in rows] == [(t, s) for t in ("s/x", "t/y") for s in ("1 %", "10 %", "100 %")]
    assert list(LinearProbe(fractions=(1.0,)).expand(["s/x"])) == [rows[2]]
    assert len({canonical_json([row.task, dict(row.options)]) for row in rows}) == 6
    assert [row.setting for row in LinearProbe(fractions=(0.5,), subset="merl").expand(["s/x"])] == ["50 % (merl)"]


@pytest.mark.parametrize(
    "change", [{"seeds": (0,)}, {"learning_rate": 0.1}, {"patience": 6}, {"batch_size": 64}, {"epochs": 9}, {"subset": "melp"}]
)
def test_what_can_move_a_score_is_among_its_options(change: dict[str, Any]) -> None:
    usual, other = (next(iter(LinearProbe(**some).expand(["s/x"]))).options for some in ({}, change))
    assert usual != other


@pytest.mark.parametrize("change", [{"fractions": (0.0,)}, {"fractions": (2.0,)}, {"seeds": ()}, {"subset": "ours"}])
def test_options_that_make_no_sense_are_refused_before_any_work(change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"wanted more than 0|at least one|wanted nested, melp, merl"):
        LinearProbe(**change)


def test_thresholds_can_be_chosen_on_validation_records_that_are_scored_alike(
    make_task: Make, context_of: Callable[..., Any]
) -> None:
    for split, kind in (("holdout", "logit"), ("cross-validate", "ranking")):
        made, evaluation = make_task(split=split, signal=6.0), LinearProbe(fractions=(1.0,))
        (row,) = evaluation.expand(["s/x"])
        found = evaluation.run(context_of(made), row)
        assert found.kind == kind  # what is pooled from folds is no logit any more
        assert found.validation is not None
        scores, labels = found.validation
        chosen = np.sort(np.concatenate([part.validation for part in made.task.parts]))
        np.testing.assert_array_equal(labels, made.task.labels[chosen])
        assert auroc(scores[0], labels).min() > 0.9
