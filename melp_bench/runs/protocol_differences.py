"""What differs between two protocols, place by place, with every option of their evaluations and metrics filled in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from melp_bench.plugins import Catalogue
from melp_bench.protocol import DatasetUse, EvaluationUse, MetricUse, Pretrain, Protocol
from melp_bench.runs.differences import NOTHING, Comparison, SettingDifference, unequal

Differences = Iterator[SettingDifference | str]


def compare_protocols(one: Protocol, two: Protocol, catalogue: Catalogue) -> Comparison:
    """Return what differs between two protocols; their names, summaries and models are not looked at.

    Datasets are told by their aliases, evaluations by their names and, of one name, by their order.

    Raises:
        UnknownName: an evaluation, a metric or a dataset is not there.
        UserError: an option is unknown.
    """
    found = [
        *_datasets(one, two, catalogue),
        *_pretraining(one.pretrain, two.pretrain),
        *_equal_or("interval", "interval.", one.interval.model_dump(), two.interval.model_dump()),
        *_evaluations(one, two, catalogue),
    ]
    differences = tuple(item for item in found if isinstance(item, SettingDifference))
    return Comparison(differences, tuple(item for item in found if isinstance(item, str)))


def _datasets(one: Protocol, two: Protocol, catalogue: Catalogue) -> Differences:
    for alias in dict.fromkeys((*one.datasets, *two.datasets)):
        first, second = one.datasets.get(alias), two.datasets.get(alias)
        if first is None or second is None:
            yield SettingDifference(f"dataset {alias}", _told_dataset(first), _told_dataset(second))
        else:
            tables = [_dataset(use, catalogue) for use in (first, second)]
            yield from _equal_or(f"dataset {alias}", f"dataset {alias}: ", *tables)


def _dataset(use: DatasetUse, catalogue: Catalogue) -> dict[str, Any]:
    plain = {name: getattr(use, name) for name in DatasetUse.model_fields if name not in ("options", "sha256")}
    return {**plain, **catalogue.datasets[use.dataset].resolve(use.options)}


def _told_dataset(use: DatasetUse | None) -> str:
    return NOTHING if use is None else f"{use.dataset}, {use.split}"


def _pretraining(one: Pretrain | None, two: Pretrain | None) -> Differences:
    if one is None or two is None:
        if one is not two:
            told = (NOTHING if budget is None else f"{budget.steps} steps of {budget.batch_size}" for budget in (one, two))
            yield SettingDifference("pretrain", *told)
        return
    yield from _equal_or("pretrain", "pretrain.", one.model_dump(), two.model_dump())


def _evaluations(one: Protocol, two: Protocol, catalogue: Catalogue) -> Differences:
    first, second = by_place(one.evaluations), by_place(two.evaluations)
    for place in dict.fromkeys((*first, *second)):
        before, after = first.get(place), second.get(place)
        if before is None or after is None:
            yield SettingDifference(place, *(NOTHING if use is None else ", ".join(use.tasks) for use in (before, after)))
            continue
        only = [[task for task in uses[0].tasks if task not in uses[1].tasks] for uses in ((before, after), (after, before))]
        if any(only):
            yield SettingDifference(f"{place}: tasks only here", *(", ".join(tasks) or NOTHING for tasks in only))
        yield from _equal_or(place, f"{place}: ", _settings(before, catalogue), _settings(after, catalogue))


def by_place(uses: Sequence[EvaluationUse]) -> dict[str, EvaluationUse]:
    """Return the evaluations by name, and from the second of a name on with its number."""
    counted: dict[str, int] = defaultdict(int)
    found = {}
    for use in uses:
        counted[use.name] += 1
        found[use.name if counted[use.name] == 1 else f"{use.name} ({counted[use.name]})"] = use
    return found


def _settings(use: EvaluationUse, catalogue: Catalogue) -> dict[str, Any]:
    """Return the options of an evaluation and its metrics with theirs."""
    entry = catalogue.evaluations[use.name]
    options = entry.resolve(use.options)
    metrics = []
    for metric in use.metrics or [MetricUse(name=name) for name in getattr(entry.build, "metrics", ())]:
        component = catalogue.metrics[metric.name]
        usual, chosen = component.resolve({}), component.resolve(metric.options)
        metrics.append(" ".join([metric.name, *(f"{key}={value}" for key, value in chosen.items() if value != usual[key])]))
    return {**options, "metrics": metrics}


def _equal_or(what: str, place: str, one: dict[str, Any], two: dict[str, Any]) -> Differences:
    """Yield what differs between two tables, or that they are the same."""
    found = list(unequal(place, one, two))
    yield from found
    if not found:
        yield what
