from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from melp_bench.canonical import digest
from melp_bench.errors import NotApplicable, UserError
from melp_bench.evaluations.cells import cells, run_cell
from melp_bench.evaluations.subject import Subject, TaskData
from melp_bench.protocol import Interval, Protocol

PLAN: dict[str, Any] = {
    "name": "plan",
    "revision": 1,
    "summary": "",
    "datasets": {"s": {"dataset": "synthetic"}, "t": {"dataset": "ludb"}},
    "evaluations": [
        {"name": "zero_shot", "tasks": ["s/x", "t/y"]},
        {"name": "linear_probe", "tasks": ["s/x"], "fractions": [0.01, 1.0]},
        {"name": "transfer", "pairs": [["s/x", "t/y"]], "class_map": {"s/x->t/y": {"a": "b"}}},
    ],
}


def plan(index: int | None = None, **changes: Any) -> Protocol:
    """Return the protocol, with changes to one of its evaluations."""
    content = json.loads(json.dumps(PLAN))
    if index is not None:
        content["evaluations"][index].update(changes)
    return Protocol.model_validate(content)


def test_a_protocol_becomes_one_cell_per_task_and_setting() -> None:
    found = [(c.evaluation, c.task, c.setting, c.aliases) for c in cells(plan())]
    assert found == [
        ("zero_shot", "s/x", "", ("s",)),
        ("zero_shot", "t/y", "", ("t",)),
        ("linear_probe", "s/x", "1 %", ("s",)),
        ("linear_probe", "s/x", "100 %", ("s",)),
        ("transfer", "s/x->t/y", "", ("s", "t")),
    ]


def test_every_cell_has_its_own_key_of_plain_json() -> None:
    keys = [digest({**cell.key_inputs, "task": cell.task}) for cell in cells(plan())]
    assert len(set(keys)) == 5


def test_a_cells_key_does_not_see_its_neighbours() -> None:
    alone = cells(plan(1, tasks=["s/x"], fractions=[1.0]))
    assert [c.key_inputs for c in alone if c.evaluation == "linear_probe"] == [cells(plan())[3].key_inputs]


def test_what_can_move_a_score_moves_the_key() -> None:
    usual = cells(plan())[3].key_inputs
    for change in ({"seeds": [0]}, {"learning_rate": 0.1}, {"patience": 6}, {"batch_size": 64}, {"epochs": 9}):
        assert cells(plan(1, **change))[3].key_inputs != usual
    assert cells(plan(2, class_map={}))[4].key_inputs != cells(plan())[4].key_inputs


def test_a_repeated_cell_is_planned_once() -> None:
    assert len(cells(plan(1, fractions=[0.01, 1.0, 1.0], tasks=["s/x", "s/x"]))) == 5


def test_a_prompt_file_counts_by_its_content_and_not_by_its_place(tmp_path: Path) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    one.write_text('{"a": "x"}')
    two.write_text('{"a": "x"}')
    first, same = (cells(plan(0, prompts=str(path)))[0] for path in (one, two))
    assert first.key_inputs == same.key_inputs
    two.write_text('{"a": "y"}')
    assert cells(plan(0, prompts=str(two)))[0].key_inputs != first.key_inputs
    with pytest.raises(UserError, match="cannot read prompts"):
        cells(plan(0, prompts=str(tmp_path / "none.json")))


@pytest.mark.parametrize("change", [{"fractions": [0.0]}, {"fractions": [2.0]}, {"seeds": []}])
def test_a_plan_that_cannot_be_run_is_refused_before_any_work(change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"wanted more than 0|at least one"):
        cells(plan(1, **change))


def test_every_cell_runs_through_the_one_door(make_task: Callable[..., TaskData], mute: Subject) -> None:
    tasks = {"s/x": make_task(), "t/y": make_task(name="t/y", seed=1, split="cross-validate")}
    outcomes = {}
    for cell in cells(plan()):
        if cell.evaluation == "zero_shot":
            with pytest.raises(NotApplicable, match="needs a text encoder"):
                run_cell(cell, mute, tasks, Interval(resamples=20))
        else:
            outcomes[str(cell)] = run_cell(cell, mute, tasks, Interval(resamples=20))
    assert outcomes["linear_probe s/x 1 %"].details["training_labels"] == [3]
    assert outcomes["linear_probe s/x 100 %"].details["training_labels"] == [320]
    assert [row.name for row in outcomes["transfer s/x->t/y"].classes] == ["b"]
    for outcome in outcomes.values():
        digest(outcome.model_dump(mode="json"))  # plain and finite


def test_a_task_that_is_not_loaded_is_named(make_task: Callable[..., TaskData], mute: Subject) -> None:
    with pytest.raises(UserError, match=r"reads \['t/y'\], which are not loaded; loaded: s/x"):
        run_cell(cells(plan())[4], mute, {"s/x": make_task()}, Interval())
