"""The defects of publications as switches: each names options that there are, and a protocol with one says what it changes."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from melp_bench.defects import defects
from melp_bench.plugins import discover
from melp_bench.protocol import Protocol
from melp_bench.runs.measurements import measurements

NAMES = list(defects())
EVERY: dict[str, Any] = {
    "name": "every",
    "revision": 1,
    "summary": "",
    "datasets": {
        "p": {"dataset": "ptb-xl"},
        "c": {"dataset": "cpsc2018", "split": "cross-validate"},
        "s": {"dataset": "synthetic"},
    },
    "evaluations": [
        {"name": "linear_probe", "tasks": ["p/sub", "s/super"], "metrics": ["auroc", "max-f1", "accuracy"]},
        {"name": "transfer", "tasks": ["p/super->c/all"]},
    ],
}


def made(**more: Any) -> Protocol:
    return Protocol.model_validate({**EVERY, **more})


def changed(one: Protocol, two: Protocol) -> dict[str, Any]:
    """Return what the second protocol says otherwise, by place."""

    def flat(value: Any, place: str = "") -> dict[str, Any]:
        if isinstance(value, dict):
            return {k: v for key, inner in value.items() for k, v in flat(inner, f"{place}.{key}").items()}
        if isinstance(value, list):
            return {k: v for i, inner in enumerate(value) for k, v in flat(inner, f"{place}.{i}").items()}
        return {place: value}

    before, after = flat(one.model_dump(mode="json")), flat(two.model_dump(mode="json"))
    return {place: value for place, value in after.items() if before.get(place) != value}


@pytest.mark.parametrize("name", NAMES)
def test_each_is_an_option_of_what_there_is_and_moves_the_hash(name: str) -> None:
    with_it = made(defects={name: True})
    assert changed(made(), with_it)
    assert with_it.hash != made().hash
    rows, usual = measurements(with_it, discover()), measurements(made(), discover())  # every option is taken
    assert [(row.name, row.measurement.task) for row in rows] == [(row.name, row.measurement.task) for row in usual]


def test_they_change_what_their_table_says_and_nothing_else() -> None:
    assert changed(made(), made(defects={"softmax-scoring": True})) == {".evaluations.0.options.scoring": "softmax"}
    assert changed(made(), made(defects={"first-5-seconds": ["c"]})) == {".datasets.c.seconds": 5.0}
    moved = changed(made(), made(defects={"positional-columns": True}))
    assert [place.rpartition(".")[0] for place in moved] == [".datasets.p.moved_columns.sub"] * 3 + [
        ".datasets.s.moved_columns.super"
    ] * 3
    assert changed(made(), made(defects={"test-thresholds": True})) == {
        ".evaluations.0.metrics.1.options.thresholds": "test",
        ".evaluations.0.metrics.2.options.thresholds": "test",
    }
    assert made(defects={"softmax-scoring": False}) == made().model_copy(update={"defects": {"softmax-scoring": False}})


def test_a_switch_is_a_name_for_options_so_that_both_have_one_hash() -> None:
    said = {**EVERY["datasets"], "c": {**EVERY["datasets"]["c"], "padding": "before-scaling"}}
    assert made(datasets=said).hash == made(defects={"padding-before-scaling": ["c"]}).hash


def test_what_is_usual_is_no_part_of_the_hash() -> None:
    usual = {"labels": "by-name", "moved_columns": {}, "seconds": None, "padding": "after-scaling"}
    said = {alias: {**use, **usual} for alias, use in EVERY["datasets"].items()}
    assert made(datasets=said).hash == made().hash


def test_label_files_keep_their_own_columns_and_labels() -> None:
    files = {"p": {"dataset": "ptb-xl", "split": "published"}, "s": {"dataset": "synthetic"}, "c": EVERY["datasets"]["c"]}
    everything = made(datasets=files, defects=dict.fromkeys(NAMES, True)).datasets["p"]
    assert (everything.labels, everything.moved_columns, everything.seconds) == ("by-name", {}, 5.0)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"defects": {"softmax": True}}, "no defect named 'softmax'; did you mean 'softmax-scoring'"),
        ({"defects": {"first-5-seconds": ["x"]}}, r"switched on in \['x'\], and \[datasets\] has"),
        ({"datasets": {**EVERY["datasets"], "c": {**EVERY["datasets"]["c"], "moved_columns": {"all": ["STE", "STD"]}}}},
         "moved_columns, which need split = 'holdout'"),
        ({"datasets": {**EVERY["datasets"], "c": {**EVERY["datasets"]["c"], "seconds": 0}}}, "greater than 0"),
        ({"defects": "softmax-scoring"}, "valid dictionary"),
    ],
)  # fmt: skip
def test_what_cannot_be_switched_on_is_refused(more: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        made(**more)


def test_each_says_in_a_line_what_it_changes_and_where_it_was_found() -> None:
    for one in defects().values():
        assert all((one.summary, one.source, one.changes))
        assert "\n" not in one.summary + one.source
    assert defects()["first-5-seconds"].changes == "any dataset: seconds = 5.0"
