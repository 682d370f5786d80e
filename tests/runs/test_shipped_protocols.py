"""Every shipped protocol speaks of datasets, tasks and classes that there are."""

from __future__ import annotations

import pytest

from melp_bench.components import Task
from melp_bench.plugins import discover
from melp_bench.protocol import EvaluationUse, Protocol, load_protocol, protocol_names
from melp_bench.runs.measurements import measurements
from melp_plugins.evaluations.shared_classes import named_maps

NAMES = protocol_names()


def tasks_by_name(protocol: Protocol) -> dict[str, Task]:
    """Return the tasks of a protocol's datasets as "alias/task"."""
    return {
        f"{alias}/{name}": task
        for alias, use in protocol.datasets.items()
        for name, task in discover().datasets[use.dataset].build(**use.options).tasks.items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_its_tasks_are_tasks_of_its_datasets(name: str) -> None:
    protocol = load_protocol(name)
    used = {task for evaluation in protocol.evaluations for task in evaluation.single_tasks}
    assert used
    assert used <= set(tasks_by_name(protocol))


@pytest.mark.parametrize("name", NAMES)
def test_its_evaluations_take_their_options_and_its_rows_can_be_told_apart(name: str) -> None:
    rows = measurements(load_protocol(name), discover())
    assert rows
    assert len({str(row) for row in rows}) == len(rows)
    assert [row.order for row in rows] == list(range(len(rows)))


TRANSFERS = [(n, use) for n in NAMES for use in load_protocol(n).evaluations if use.name == "transfer"]


@pytest.mark.parametrize(("name", "use"), TRANSFERS)
def test_its_class_maps_name_classes_of_both_sides(name: str, use: EvaluationUse) -> None:
    known, maps = tasks_by_name(load_protocol(name)), use.options.get("class_map", {})
    if isinstance(maps, str):  # a named one, whose classes are tested with it
        assert {pair.replace("-sample", "") for pair in use.tasks} <= {
            pair for one in named_maps().values() for there in one for pair in (there, "->".join(there.split("->")[::-1]))
        }
        return
    for pair in use.tasks:
        source, target = pair.split("->")
        mapped = maps.get(pair)
        if mapped is None:
            assert set(known[source].classes) & set(known[target].classes)
            continue
        assert set(mapped) <= set(known[source].classes)
        aims = {name for aim in mapped.values() for name in ([aim] if isinstance(aim, str) else aim)}
        assert aims <= set(known[target].classes)
    assert set(maps) <= set(use.tasks)
