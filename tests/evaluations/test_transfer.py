from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from melp_bench.errors import NotApplicable, UserError
from melp_bench.evaluations import linear_probe, transfer
from melp_bench.evaluations.subject import Subject, TaskData
from melp_bench.protocol import Interval, LinearProbe, Transfer
from melp_bench.results import Outcome

Make = Callable[..., TaskData]
OPTIONS = Transfer(name="transfer", pairs=[("s/x", "t/y")])
QUICK = Interval(resamples=50)


def move(subject: Subject, source: TaskData, target: TaskData, class_map: transfer.ClassMap | None = None) -> Outcome:
    return transfer.run(subject, source, target, class_map=class_map, options=OPTIONS, interval=QUICK)


def test_a_task_transferred_to_itself_is_its_own_probe(make_task: Make, mute: Subject) -> None:
    task = make_task(signal=1.0)
    probe = linear_probe.run(mute, task, fraction=1.0, options=LinearProbe(name="linear_probe", tasks=["s/x"]), interval=QUICK)
    moved = move(mute, task, task)
    assert moved.scores == probe.scores
    assert moved.classes == probe.classes


def test_what_is_learnt_on_one_dataset_holds_on_another(make_task: Make, mute: Subject) -> None:
    source, target = make_task(signal=3.0), make_task(name="t/y", signal=3.0, seed=5, split="cross-validate")
    result = move(mute, source, target)
    assert result.scores["auroc"].value > 0.9
    assert result.details["records"] == 400  # all records of a target on which nothing is fitted


def test_classes_are_shared_by_name_whatever_their_order(make_task: Make, mute: Subject) -> None:
    source, target = make_task(signal=3.0), make_task(name="t/y", signal=3.0, seed=5)
    columns = [2, 0]
    reordered = replace(target, classes=("c", "a", "new"), labels=np.c_[target.labels[:, columns], target.labels[:, 1]])
    straight, crossed = move(mute, source, target), move(mute, source, reordered)
    by_name = {row.name: row for row in straight.classes}
    assert crossed.classes == [by_name["c"], by_name["a"]]
    assert crossed.details["classes_not_shared"] == ["new"]
    assert crossed.resamples is not None


def test_several_source_classes_meet_in_one_target_class_by_their_largest_logit(make_task: Make, mute: Subject) -> None:
    source, target = make_task(signal=4.0, records=1000), make_task(name="t/y", signal=4.0, records=1000, seed=5)
    either = replace(target, classes=("either",), labels=target.labels[:, :1] | target.labels[:, 1:2])
    both = move(mute, source, either, {"a": "either", "b": "either"})
    one = move(mute, source, either, {"a": "either"})
    assert both.details["class_map"] == {"either": ["a", "b"]}
    assert both.scores["auroc"].value > one.scores["auroc"].value + 0.05
    assert both.scores["auroc"].value > 0.95


def test_one_source_class_stands_for_several_finer_target_classes(make_task: Make, mute: Subject) -> None:
    source, target = make_task(signal=4.0, records=1000), make_task(name="t/y", signal=4.0, records=1000, seed=5)
    coarse = replace(source, classes=("A", "c"), labels=np.c_[source.labels[:, :2].any(axis=1), source.labels[:, 2]])
    moved = move(mute, coarse, target, {"A": ["a", "b"], "c": "c"})
    assert [row.name for row in moved.classes] == ["A", "c"]
    assert moved.classes[0].positives == target.labels[target.folds == 10][:, :2].any(axis=1).sum()
    assert moved.details["target_classes"] == {"A": ["a", "b"]}
    assert moved.details["classes_not_shared"] == []
    either = replace(target, classes=("A",), labels=target.labels[:, :2].any(axis=1)[:, None])
    assert moved.classes[0] == move(mute, coarse, either).classes[0]
    with pytest.raises(UserError, match="'A' stands for two different sets"):
        move(mute, replace(coarse, classes=("A", "B")), replace(target, classes=("A", "b", "c")), {"A": ["b", "c"], "B": "A"})
    with pytest.raises(UserError, match="'A' maps to no class"):
        move(mute, coarse, target, {"A": []})


def test_target_labels_and_target_features_never_reach_the_fit(make_task: Make, mute: Subject) -> None:
    source, target = make_task(), make_task(name="t/y", seed=5)
    other = replace(target, labels=~target.labels, embedding=torch.flip(target.embedding, dims=[0]))
    fitted = [move(mute, source, t).details for t in (target, other)]
    assert fitted[0]["validation"] == fitted[1]["validation"]
    straight, flipped = move(mute, source, target), move(mute, source, replace(target, labels=~target.labels))
    assert flipped.scores["auroc"].value == pytest.approx(1 - straight.scores["auroc"].value, abs=1e-12)


def test_patients_that_were_fitted_on_are_never_scored(make_task: Make, mute: Subject) -> None:
    task = make_task(split="cross-validate")
    with pytest.raises(NotApplicable, match="200 patients of 's/y' would be scored after 's/x' was fitted"):
        move(mute, task, replace(task, name="s/y"))
    one = replace(task, dataset="ptb-xl")
    with pytest.raises(NotApplicable, match="200 patients of 'published/x' would be scored after 's/x' was fitted"):
        move(mute, one, replace(one, name="published/x"))
    assert move(mute, one, replace(one, name="t/x", dataset="csn")).scores  # "p00001" of another dataset is somebody else


def test_tasks_that_share_nothing_and_maps_that_name_nothing_say_so(make_task: Make, mute: Subject) -> None:
    source, target = make_task(), make_task(name="t/y", classes=("d", "e", "f"))
    with pytest.raises(NotApplicable, match="share no class"):
        move(mute, source, target)
    with pytest.raises(UserError, match="'s/x' has no class 'aa'"):
        move(mute, source, target, {"aa": "d"})
    with pytest.raises(UserError, match="'t/y' has no class 'D'"):
        move(mute, source, target, {"a": "D"})
