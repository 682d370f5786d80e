"""Every shipped protocol speaks of datasets, tasks and classes that there are."""

from __future__ import annotations

import pytest

from melp_bench.components import Task
from melp_bench.plugins import discover
from melp_bench.protocol import Protocol, Transfer, load_protocol, protocol_names, tasks_of

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
    used = {task for evaluation in protocol.evaluations for task in tasks_of(evaluation)}
    assert used
    assert used <= set(tasks_by_name(protocol))


@pytest.mark.parametrize("name", [n for n in NAMES if any(isinstance(e, Transfer) for e in load_protocol(n).evaluations)])
def test_its_class_maps_name_classes_of_both_sides(name: str) -> None:
    protocol = load_protocol(name)
    known = tasks_by_name(protocol)
    for evaluation in protocol.evaluations:
        if not isinstance(evaluation, Transfer):
            continue
        for source, target in evaluation.pairs:
            mapped = evaluation.class_map.get(f"{source}->{target}")
            if mapped is None:
                assert set(known[source].classes) & set(known[target].classes)
                continue
            assert set(mapped) <= set(known[source].classes)
            aims = {name for aim in mapped.values() for name in ([aim] if isinstance(aim, str) else aim)}
            assert aims <= set(known[target].classes)
        assert set(evaluation.class_map) <= {f"{source}->{target}" for source, target in evaluation.pairs}
