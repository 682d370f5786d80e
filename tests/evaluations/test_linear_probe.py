from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from melp_bench.errors import NotApplicable, UserError
from melp_bench.evaluations import linear_probe
from melp_bench.evaluations.linear_probe import problems_of
from melp_bench.evaluations.probe import fit
from melp_bench.evaluations.subject import Subject, TaskData
from melp_bench.measure import difference, pack, unpack
from melp_bench.metrics import auroc
from melp_bench.protocol import Interval, LinearProbe
from melp_bench.results import Outcome

Make = Callable[..., TaskData]
OPTIONS = LinearProbe(name="linear_probe", tasks=["s/x"])
QUICK = Interval(resamples=100)


def probe(subject: Subject, task: TaskData, fraction: float = 1.0) -> Outcome:
    return linear_probe.run(subject, task, fraction=fraction, options=OPTIONS, interval=QUICK)


def shuffled(task: TaskData, seed: int = 0) -> TaskData:
    order = np.random.default_rng(seed).permutation(len(task.folds))
    return replace(
        task,
        labels=task.labels[order],
        record_ids=task.record_ids[order],
        patients=task.patients[order],
        folds=task.folds[order],
        embedding=task.embedding[order],
        record=task.record[order],
    )


@pytest.mark.parametrize("split", ["holdout", "cross-validate"])
def test_separable_features_are_learnt(make_task: Make, mute: Subject, split: str) -> None:
    result = probe(mute, make_task(signal=12.0, split=split))
    assert result.scores["auroc"].value > 0.995
    assert result.scores["auprc"].value > 0.99


@pytest.mark.parametrize("split", ["holdout", "cross-validate"])
def test_the_interval_on_noise_covers_a_half(make_task: Make, mute: Subject, split: str) -> None:
    score = probe(mute, make_task(signal=0.0, records=1000, split=split)).scores["auroc"]
    assert score.low < 0.5 < score.high


def test_more_labels_teach_more(make_task: Make, mute: Subject) -> None:
    task = make_task(records=3000, width=40, signal=1.0)
    few, some, every = (probe(mute, task, f).scores["auroc"].value for f in (0.01, 0.1, 1.0))
    assert few + 0.03 < some < every


@pytest.mark.parametrize("split", ["holdout", "cross-validate"])
def test_the_order_of_records_moves_nothing(make_task: Make, mute: Subject, split: str) -> None:
    task = make_task(signal=1.0, split=split)
    assert probe(mute, shuffled(task), 0.1) == probe(mute, task, 0.1) == probe(mute, task, 0.1)


def test_test_labels_never_reach_the_fit(make_task: Make) -> None:
    task = make_task(split="holdout")
    test = np.flatnonzero(task.folds == 10)
    labels = task.labels.copy()
    labels[test] = np.random.default_rng(1).permutation(labels[test])
    assert (labels != task.labels).any()
    for fraction in (0.05, 1.0):
        logits = [
            fit(task.embedding, y, problems_of(replace(task, labels=y), fraction, [0, 1]), OPTIONS)[1].logits(task.embedding)
            for y in (task.labels, labels)
        ]
        np.testing.assert_array_equal(*logits)


def test_test_records_never_reach_the_fit_of_a_fold(make_task: Make) -> None:
    task = make_task(split="cross-validate")
    train, validation, test = task.parts()[3]
    features, labels = task.embedding.clone(), task.labels.copy()
    features[test], labels[test] = 1e3, ~labels[test]
    problems = [p for p in problems_of(task, 0.5, [0]) if p.part == 3]
    changed = [p for p in problems_of(replace(task, labels=labels), 0.5, [0]) if p.part == 3]
    one = fit(task.embedding, task.labels, problems, OPTIONS)[0]
    two = fit(features, labels, changed, OPTIONS)[0]
    assert torch.equal(one.weight, two.weight)
    assert not set(test) & (set(train) | set(validation))


def test_pooled_folds_are_not_hurt_by_their_own_scales(make_task: Make, mute: Subject) -> None:
    """Pooled AUROC lies near the mean of those within folds, as it must when every fold asks the same question."""
    task = make_task(records=1000, signal=1.5, split="cross-validate")
    problems, tests = problems_of(task, 1.0, [0]), [test for _, _, test in task.parts()]
    probes = fit(task.embedding, task.labels, problems, OPTIONS)
    within = [auroc(p.logits(task.embedding[t]), task.labels[t]).mean() for p, t in zip(probes, tests, strict=True)]
    assert abs(probe(mute, task).scores["auroc"].value - np.mean(within)) < 0.015


def test_every_record_is_scored_once_in_a_cross_validation(make_task: Make, mute: Subject) -> None:
    result = probe(mute, make_task(split="cross-validate"))
    assert result.details["records"] == 400
    assert result.details["patients"] == 200
    assert len(result.details["chosen_epochs"]) == 10 * len(OPTIONS.seeds)


def test_the_value_is_the_mean_over_seeds_and_their_spread_is_told(make_task: Make, mute: Subject) -> None:
    result = probe(mute, make_task(signal=1.0), 0.05)
    by_seed = result.details["auroc_by_seed"]
    assert len(by_seed) == 3
    assert len(set(by_seed)) > 1
    assert result.scores["auroc"].value == pytest.approx(np.mean(by_seed), abs=1e-12)
    assert result.details["auroc_sd_over_seeds"] == pytest.approx(np.std(by_seed, ddof=1))


def test_classes_without_a_test_positive_or_a_training_positive_are_listed(make_task: Make, mute: Subject) -> None:
    task = make_task()
    labels = task.labels.copy()
    labels[task.folds == 10, 0] = False
    labels[task.folds <= 8, 1] = False
    result = probe(mute, replace(task, labels=labels))
    assert result.excluded == ["a"]
    assert result.classes[0].scores == {}
    assert result.details["classes_without_training_positive"] == ["b"]
    assert result.scores["auroc"].value == pytest.approx(
        np.mean([row.scores["auroc"].value for row in result.classes if row.scores])
    )


def test_an_empty_part_and_features_that_are_not_finite_say_so(make_task: Make, mute: Subject) -> None:
    task = make_task()
    with pytest.raises(NotApplicable, match="no test record"):
        probe(mute, replace(task, folds=np.minimum(task.folds, 9)))
    with pytest.raises(NotApplicable, match="no training record"):
        probe(mute, replace(task, folds=task.folds % 2 + 1, split="cross-validate"))
    broken = task.embedding.clone()
    broken[3, 2] = torch.inf
    with pytest.raises(UserError, match="model 'mute' gave record embeddings that are not finite for 1 of 400"):
        probe(mute, replace(task, embedding=broken))


def test_two_rows_tell_whether_they_are_separable_from_their_details_alone(make_task: Make, mute: Subject) -> None:
    good, poor = make_task(records=1200, signal=2.0), make_task(records=1200, signal=0.5)
    first, second = probe(mute, good), probe(mute, poor)
    between = difference(first, second, 0.95)
    assert between is not None
    assert between.separable
    assert between.value == pytest.approx(first.scores["auroc"].value - second.scores["auroc"].value)
    itself = difference(first, first, 0.95)
    assert itself is not None
    assert (itself.low, itself.high) == (0.0, 0.0)
    assert difference(first, probe(mute, make_task(records=1200, seed=1)), 0.95) is None  # other labels


def test_packed_resamples_are_kept_to_eight_millionths() -> None:
    values = np.append(np.random.default_rng(0).random(1000), [0.0, 1.0, np.nan])
    np.testing.assert_allclose(unpack(pack(values)), values, atol=8e-6)
