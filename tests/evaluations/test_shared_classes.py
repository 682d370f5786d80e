"""The named maps of a transfer: what they let tasks share in either direction, and zero-shot over the same classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from melp_bench.errors import NotApplicable, UserError
from melp_bench.evaluations import ModelTraits, TaskRecords
from melp_bench.plugins import discover
from melp_bench.results import Outcome
from melp_plugins.evaluations.shared_classes import named_maps, shared_by_name_of_map
from melp_plugins.evaluations.transfer import Transfer
from melp_plugins.evaluations.transfer_zero_shot import TransferZeroShot

Make = Callable[..., Any]
Score = Callable[..., Outcome]
TASKS = {name: discover().datasets[name.partition("/")[0]].build().tasks for name in ("ptb-xl", "cpsc2018", "csn")}


def records(make_task: Make, name: str) -> TaskRecords:
    dataset, _, task = name.partition("/")
    task_of = TASKS[dataset.removesuffix("-sample")][task]
    found: TaskRecords = make_task(name=name, classes=task_of.classes, width=64).change(dataset=dataset).task
    return found


def told(make_task: Make, source: str, target: str, name: str) -> dict[str, tuple[list[str], list[str]]]:
    """Return, by shared class, the names of its source and target classes."""
    one, two = records(make_task, source), records(make_task, target)
    return {
        shared.name: ([one.classes[c] for c in shared.sources], [two.classes[c] for c in shared.targets])
        for shared in shared_by_name_of_map(one, two, name)
    }


@pytest.mark.parametrize("name", ["corrected", "published"])
def test_every_class_of_a_map_is_a_class_of_its_task(name: str) -> None:
    assert len(named_maps()[name]) == 3
    for pair, table in named_maps()[name].items():
        source, target = ((dataset, task) for dataset, _, task in (side.partition("/") for side in pair.split("->")))
        assert set(table) <= set(TASKS[source[0]][source[1]].classes)
        assert {aim for aims in table.values() for aim in aims} <= set(TASKS[target[0]][target[1]].classes)


def test_ours_asks_one_question_of_classes_that_belong_together(make_task: Make) -> None:
    assert told(make_task, "ptb-xl/super", "cpsc2018/all", "corrected") == {
        "NORM": (["NORM"], ["NORM"]),
        "CD": (["CD"], ["1AVB", "CRBBB", "CLBBB"]),
        "STTC": (["STTC"], ["STE", "STD"]),
    }
    assert told(make_task, "cpsc2018-sample/all", "ptb-xl-sample/super", "corrected") == {
        "NORM": (["NORM"], ["NORM"]),
        "STTC": (["STE", "STD"], ["STTC"]),
        "CD": (["1AVB", "CRBBB", "CLBBB"], ["CD"]),
    }


def test_the_published_map_asks_each_target_class_by_itself_and_keeps_its_oddities(make_task: Make) -> None:
    moved = told(make_task, "ptb-xl/super", "csn/published", "published")
    assert moved["STDD"] == (["CD"], ["STDD"])  # an ST depression as a conduction disturbance
    assert moved["SR"] == (["NORM"], ["SR"])
    assert len(moved) == 1 + 2 + 7 + 1 + 6
    names = told(make_task, "cpsc2018/all", "csn/published", "published")
    assert names["STE"] == (["STE", "STD"], ["STE"])  # a depression stands for an elevation, too
    back = told(make_task, "csn/published", "cpsc2018/all", "published")
    assert back["STD"] == (["STE", "STTC", "STTU", "STDD"], ["STD"])


def test_a_pair_that_a_map_says_nothing_of_and_a_map_that_is_not_there(make_task: Make) -> None:
    with pytest.raises(NotApplicable, match="map 'corrected' does not say which classes 'ptb-xl/super' and 'ptb-xl/sub' share"):
        told(make_task, "ptb-xl/super", "ptb-xl/sub", "corrected")
    for evaluation in (Transfer, TransferZeroShot):
        with pytest.raises(UserError, match="has the class_map 'corect'; did you mean 'corrected'"):
            evaluation(class_map="corect")


def test_a_named_map_is_in_the_rows_key_and_the_published_one_is_told() -> None:
    (ours,), (published,) = (list(Transfer(class_map=name).expand(["p/super->c/all"])) for name in ("corrected", "published"))
    assert ours.options["class_map"] == {"corrected": named_maps()["corrected"]}
    assert (ours.setting, published.setting) == ("", "published map")


def test_zero_shot_scores_the_shared_classes_by_the_targets_prompts(make_task: Make, score: Score) -> None:
    """Records lie on the axes of their classes and prompts on the same axes: what counts together is found together."""
    source = make_task(name="s/x", classes=("A", "c"))
    target = make_task(name="t/y", classes=("a", "b", "c"), split="cross-validate")
    axes = torch.eye(12)
    said = {text: axes[c] for c, name in enumerate(target.task.classes) for text in target.task.prompts[name]}
    ones = np.ones((400, 12))
    ones[:, :3] = 3 * target.task.labels
    target = target.change(torch.tensor(ones, dtype=torch.float32))
    maps = {"s/x->t/y": {"A": ["a", "b"], "c": "c"}}

    def encode(prompts: list[str]) -> torch.Tensor:
        return torch.stack([said[prompt] for prompt in prompts])

    result = score(TransferZeroShot(class_map=maps), source, target, pair=True, encode=encode, resamples=20)
    assert [row.name for row in result.classes] == ["A", "c"]
    assert [row.positives for row in result.classes] == [
        int(target.task.labels[:, :2].any(axis=1).sum()),
        int(target.task.labels[:, 2].sum()),
    ]
    assert result.scores["auroc"].value > 0.98
    assert result.details["target_classes"] == {"A": ["a", "b"], "c": ["c"]}
    assert TransferZeroShot().fits(ModelTraits("mute", reads_text=False)) == "needs a text encoder"
