"""What differs between two protocols: every option that is not the same, in its place, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from melp_bench.plugins import discover
from melp_bench.protocol import Protocol, load_protocol, protocol_names
from melp_bench.runs.differences import Comparison
from melp_bench.runs.protocol_differences import compare_protocols

PLAIN: dict[str, Any] = {
    "name": "one",
    "revision": 1,
    "summary": "",
    "datasets": {"s": {"dataset": "synthetic"}, "l": {"dataset": "ludb"}},
    "pretrain": {"dataset": "s", "steps": 10},
    "evaluations": [
        {"name": "linear_probe", "tasks": ["s/super", "l/rhythm"], "options": {"seeds": [0, 1]}},
        {"name": "knn", "tasks": ["s/super"]},
    ],
}


def compared(**more: Any) -> Comparison:
    one, two = (Protocol.model_validate(content) for content in (PLAIN, {**PLAIN, **more}))
    return compare_protocols(one, two, discover())


def told(found: Comparison) -> dict[str, tuple[str, str]]:
    return {difference.place: (difference.one, difference.two) for difference in found.differences}


@pytest.mark.parametrize("name", protocol_names())
def test_a_protocol_does_not_differ_from_itself(name: str) -> None:
    found = compare_protocols(load_protocol(name), load_protocol(name), discover())
    assert found.differences == ()
    assert {"pretrain", "interval"} <= set(found.same)


def test_a_name_a_summary_and_models_are_no_difference_and_a_default_that_is_said_is_none() -> None:
    said = [{**PLAIN["evaluations"][0], "options": {"seeds": [0, 1], "patience": 5}}, PLAIN["evaluations"][1]]
    assert compared(name="two", summary="other", models=["melp"], evaluations=said).differences == ()


def test_every_place_is_told_with_both_sides() -> None:
    found = compared(
        datasets={"s": {"dataset": "synthetic", "options": {"seed": 3}}, "p": {"dataset": "ptb-xl"}},
        pretrain={"dataset": "s", "steps": 20},
        interval={"resamples": 50},
        evaluations=[
            {"name": "linear_probe", "tasks": ["s/super"], "options": {"seeds": [0, 1], "scoring": "softmax"}},
            {"name": "zero_shot", "tasks": ["s/super"]},
        ],
    )
    assert told(found) == {
        "dataset s: seed": ("0", "3"),
        "dataset l": ("ludb, holdout", "-"),
        "dataset p": ("-", "ptb-xl, holdout"),
        "pretrain.steps": ("10", "20"),
        "interval.resamples": ("1000", "50"),
        "linear_probe: tasks only here": ("l/rhythm", "-"),
        "linear_probe: scoring": ("logits", "softmax"),
        "knn": ("s/super", "-"),
        "zero_shot": ("-", "s/super"),
    }


def test_a_defect_is_told_as_what_it_sets() -> None:
    assert told(compared(defects={"softmax-scoring": True, "first-5-seconds": ["l"]})) == {
        "linear_probe: scoring": ("logits", "softmax"),
        "dataset l: seconds": ("none", "5"),
    }
    evaluations = [{**PLAIN["evaluations"][1], "metrics": ["auroc", "max-f1"]}]
    one, two = (
        Protocol.model_validate({**PLAIN, "evaluations": evaluations, "defects": {"test-thresholds": on}})
        for on in (False, True)
    )
    found = compare_protocols(one, two, discover())
    assert told(found) == {"knn: metrics": ("auroc, max-f1", "auroc, max-f1 thresholds=test")}


def test_without_a_budget_and_evaluations_of_one_name() -> None:
    assert told(compared(pretrain=None)) == {"pretrain": ("10 steps of 64", "-")}
    twice = [*PLAIN["evaluations"], {"name": "knn", "tasks": ["s/super"], "options": {"k": 5}}]
    assert told(compared(evaluations=twice)) == {"knn (2)": ("-", "s/super")}
