from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from melp_bench.errors import NotApplicable, UserError
from melp_bench.evaluations import PublishedRows
from melp_bench.results import ClassScore, Outcome
from melp_bench.splits import SplitPart
from melp_plugins.evaluations.linear_probe import LinearProbe
from melp_plugins.evaluations.transfer import Transfer

Make = Callable[..., Any]
Move = Callable[..., Outcome]


@pytest.fixture
def move(score: Callable[..., Outcome]) -> Move:
    """Return a function from two tasks, and the classes they share, to the outcome of the transfer."""

    def moved(source: Any, target: Any, class_map: Any = None) -> Outcome:
        maps = {f"{source.task.name}->{target.task.name}": class_map} if class_map is not None else None
        return score(Transfer(class_map=maps), source, target, pair=True, resamples=50)

    return moved


def measured(rows: Sequence[ClassScore]) -> list[tuple[Any, ...]]:
    """Return what is measured of classes, without intervals: those of few positives also read the classes beside them."""
    return [(row.name, row.positives, row.records, {name: s.value for name, s in row.scores.items()}) for row in rows]


def test_a_task_transferred_to_itself_is_its_own_probe(make_task: Make, move: Move, score: Callable[..., Outcome]) -> None:
    task = make_task(signal=1.0)
    probe = score(LinearProbe(fractions=(1.0,)), task, resamples=50)
    moved = move(task, task)
    assert moved.scores == probe.scores
    assert moved.classes == probe.classes


def test_what_is_learnt_on_one_dataset_holds_on_another(make_task: Make, move: Move) -> None:
    source, target = make_task(signal=3.0), make_task(name="t/y", signal=3.0, seed=5, split="cross-validate")
    result = move(source, target)
    assert result.scores["auroc"].value > 0.9
    assert result.details["records"] == 400  # all records of a target on which nothing is fitted


def test_classes_are_shared_by_name_whatever_their_order(make_task: Make, move: Move) -> None:
    source, target = make_task(signal=3.0), make_task(name="t/y", signal=3.0, seed=5)
    columns = [2, 0]
    reordered = target.change(classes=("c", "a", "new"), labels=np.c_[target.task.labels[:, columns], target.task.labels[:, 1]])
    straight, crossed = move(source, target), move(source, reordered)
    by_name = {row.name: row for row in straight.classes}
    assert measured(crossed.classes) == measured([by_name["c"], by_name["a"]])
    assert crossed.details["classes_not_shared"] == ["new"]
    assert crossed.resamples is not None


def test_several_source_classes_meet_in_one_target_class_by_their_largest_logit(make_task: Make, move: Move) -> None:
    source, target = make_task(signal=4.0, records=1000), make_task(name="t/y", signal=4.0, records=1000, seed=5)
    either = target.change(classes=("either",), labels=target.task.labels[:, :1] | target.task.labels[:, 1:2])
    both = move(source, either, {"a": "either", "b": "either"})
    one = move(source, either, {"a": "either"})
    assert both.details["class_map"] == {"either": ["a", "b"]}
    assert both.scores["auroc"].value > one.scores["auroc"].value + 0.05
    assert both.scores["auroc"].value > 0.95


def test_one_source_class_stands_for_several_finer_target_classes(make_task: Make, move: Move) -> None:
    source, target = make_task(signal=4.0, records=1000), make_task(name="t/y", signal=4.0, records=1000, seed=5)
    coarse = source.change(classes=("A", "c"), labels=np.c_[source.task.labels[:, :2].any(axis=1), source.task.labels[:, 2]])
    moved = move(coarse, target, {"A": ["a", "b"], "c": "c"})
    assert [row.name for row in moved.classes] == ["A", "c"]
    assert moved.classes[0].positives == target.task.labels[target.task.scored][:, :2].any(axis=1).sum()
    assert moved.details["target_classes"] == {"A": ["a", "b"]}
    assert moved.details["classes_not_shared"] == []
    either = target.change(classes=("A",), labels=target.task.labels[:, :2].any(axis=1)[:, None])
    assert measured(moved.classes[:1]) == measured(move(coarse, either).classes[:1])
    with pytest.raises(UserError, match="'A' stands for two different sets"):
        move(coarse.change(classes=("A", "B")), target.change(classes=("A", "b", "c")), {"A": ["b", "c"], "B": "A"})
    with pytest.raises(UserError, match="'A' maps to no class"):
        move(coarse, target, {"A": []})


def test_target_labels_and_target_features_never_reach_the_fit(make_task: Make, move: Move) -> None:
    source, target = make_task(), make_task(name="t/y", seed=5)
    other = target.change(torch.flip(target.features, dims=[0]), labels=~target.task.labels)
    fitted = [move(source, t).details for t in (target, other)]
    assert fitted[0]["validation"] == fitted[1]["validation"]
    straight, flipped = move(source, target), move(source, target.change(labels=~target.task.labels))
    assert flipped.scores["auroc"].value == pytest.approx(1 - straight.scores["auroc"].value, abs=1e-12)


def test_patients_that_were_fitted_on_are_never_scored(make_task: Make, move: Move) -> None:
    task = make_task(split="cross-validate")
    with pytest.raises(NotApplicable, match="200 patients of 's/y' would be scored after 's/x' was fitted"):
        move(task, task.change(name="s/y"))
    one = task.change(dataset="ptb-xl")
    with pytest.raises(NotApplicable, match="200 patients of 'published/x' would be scored after 's/x' was fitted"):
        move(one, one.change(name="published/x"))
    assert move(one, one.change(name="t/x", dataset="csn")).scores  # "p00001" of another dataset is somebody else


def test_tasks_that_share_nothing_and_maps_that_name_nothing_say_so(make_task: Make, move: Move) -> None:
    source, target = make_task(), make_task(name="t/y", classes=("d", "e", "f"))
    with pytest.raises(NotApplicable, match="share no class"):
        move(source, target)
    with pytest.raises(UserError, match="'s/x' has no class 'aa'"):
        move(source, target, {"aa": "d"})
    with pytest.raises(UserError, match="'t/y' has no class 'D'"):
        move(source, target, {"a": "D"})


def test_a_cross_validated_source_is_chosen_on_its_first_fold_and_fitted_on_all_others(make_task: Make, move: Move) -> None:
    source, target = make_task(split="cross-validate"), make_task(name="t/y", seed=5)
    details = move(source, target).details
    assert details["training_records"] == [360]
    first = source.task.parts[0].test
    rest = np.setdiff1d(np.arange(400), first)
    same = source.change(parts=(SplitPart(rest, first, first),))
    assert move(same, target).scores == move(source, target).scores


def test_tasks_that_are_no_pairs_and_maps_of_no_pair_are_refused_before_any_work() -> None:
    with pytest.raises(UserError, match="has the task 's/x'; wanted a pair"):
        list(Transfer().expand(["s/x"]))
    with pytest.raises(UserError, match="class_map of 's/x->t/z'; did you mean 's/x->t/y'"):
        list(Transfer(class_map={"s/x->t/z": {"a": "b"}}).expand(["s/x->t/y"]))
    with pytest.raises(UserError, match="at least one"):
        Transfer(seeds=())
    (row,) = Transfer(class_map={"s/x->t/y": {"a": "b"}}).expand(["s/x->t/y"])
    assert row.tasks == ("s/x", "t/y")
    assert row.options["class_map"] == {"a": "b"}


def test_columns_that_changed_places_between_published_files_are_transferred_nowhere(make_task: Make, move: Move) -> None:
    source, target = make_task(), make_task(name="t/y")
    with pytest.raises(NotApplicable, match="changed places"):
        move(source.change(published=PublishedRows(np.arange(400), 400, ("a",))), target)
