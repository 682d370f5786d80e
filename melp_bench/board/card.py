"""What a reader finds behind a click: a method's card, and a measurement's classes, weakest first."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from melp_bench.board.arrangement import evaluation_label
from melp_bench.board.escape import plain
from melp_bench.board.plots import Curve, curves
from melp_bench.board.sections import Column, Method, Section, Table, scored_outcome
from melp_bench.results import ClassScore

_ELSEWHERE = ("overlap", "recipe", "pretraining.identity", "pretraining.history")  # shown as what it is, and as curves
DIGITS = 12  # of a digest, enough to tell two apart


@dataclass(frozen=True)
class RecipeLine:
    """One line of what a model is; `reference` is the same line of the model it is compared with, None where there is none."""

    name: str
    value: str
    reference: str | None

    @property
    def differs(self) -> bool:
        """Whether there is a reference and it says something else."""
        return self.reference is not None and self.reference != self.value


@dataclass(frozen=True)
class Card:
    """One method: what it is, and where its rows come from."""

    method: Method
    facts: tuple[tuple[str, str], ...]
    curves: tuple[Curve, ...]
    reference: str  # the method that the recipe is compared with: the one that stands first; "" on its own card
    recipe: tuple[RecipeLine, ...]
    code: tuple[tuple[str, str], ...]  # of which code its rows were made: component, digest
    rows: tuple[tuple[str, str, str, str, str], ...]  # measurement, pretraining seed, key, created, seconds
    environment: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ClassRow:
    """One class of a task under one measurement; scores by method anchor."""

    name: str
    positives: str
    records: str
    rare: bool
    scores: Mapping[str, ClassScore]


def cards(section: Section, anchors: Container[str]) -> list[Card]:
    """Return a card per method of the section whose anchor is among these."""
    reference = section.tables[0].methods[0] if len(section.methods) > 1 else None
    chosen = [method for method in section.methods if method.anchor in anchors]
    return [_card(method, reference if reference is not method else None) for method in chosen]


def _card(method: Method, reference: Method | None) -> Card:
    first = method.told_by
    own = dict(_flat(first.inputs.model))
    other = dict(_flat(reference.records[0].inputs.model)) if reference else None
    names = sorted({*own, *(other or {})})
    return Card(
        method=method,
        facts=tuple((k.replace("_", " "), v) for k, v in _flat(first.facts) if not _is_elsewhere(k)),
        curves=curves(first),
        reference=reference.label if reference else "",
        recipe=tuple(RecipeLine(n, own.get(n, "absent"), other.get(n, "absent") if other is not None else None) for n in names),
        code=_code(method),
        rows=tuple(
            (
                plain(f"{evaluation_label(r)} {r.setting} · {r.task.replace('->', ' → ')}"),
                "–" if r.inputs.pretraining_seed is None else str(r.inputs.pretraining_seed),
                r.key,
                plain(r.created),
                f"{r.seconds:.1f}",
            )
            for r in sorted(method.records, key=lambda r: (r.task, r.order, r.evaluation, r.setting, r.key))
        ),
        environment=environment(method),
    )


def _code(method: Method) -> tuple[tuple[str, str], ...]:
    """Return the components whose code made the method's rows, with the first digits of their digests."""
    found: dict[str, set[str]] = {}
    for record in method.records:
        for name, code in record.inputs.code.items():
            found.setdefault(plain(name), set()).add(plain(code)[:DIGITS])
    return tuple((name, ", ".join(sorted(codes))) for name, codes in sorted(found.items()))


def environment(*methods: Method) -> tuple[tuple[str, str], ...]:
    """Return every value of every environment variable that the rows name, once."""
    values: dict[str, set[str]] = {}
    for method in methods:
        for record in method.records:
            for name, value in record.environment.items():
                values.setdefault(plain(name), set()).add(plain(value))
    return tuple((name, ", ".join(sorted(found))) for name, found in sorted(values.items()))


def _is_elsewhere(name: str) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in _ELSEWHERE)


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted name, text) for each leaf of plain JSON."""
    if isinstance(value, dict) and value:
        for name in sorted(value):
            yield from _flat(value[name], f"{prefix}.{plain(name)}" if prefix else plain(name))
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for number, item in enumerate(value):
            yield from _flat(item, f"{prefix}.{number}")
    else:
        yield prefix, readable(value)


def readable(value: Any) -> str:
    """Return plain JSON as a reader likes it: thousands grouped, lists with commas."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:g}"
    if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
        return ", ".join(readable(item) for item in value) or "none"
    return plain(value) if isinstance(value, str) else plain(json.dumps(value, sort_keys=True, ensure_ascii=False))


def class_rows(column: Column, table: Table) -> list[ClassRow]:
    """Return the classes of a measurement, weakest first by the mean over the methods; unscored ones last, by name."""
    found: dict[str, dict[str, ClassScore]] = {}
    rare: set[str] = set()
    for method in table.methods:
        cell = column.cells.get(method.anchor)
        outcome = scored_outcome(cell.record) if cell else None
        for entry in outcome.classes if outcome else ():
            found.setdefault(entry.name, {})[method.anchor] = entry
        rare |= set(outcome.rare if outcome else ())
    ordered = sorted(found, key=lambda name: (*_strength(found[name].values(), column), name))
    return [
        ClassRow(
            name=plain(name),
            positives=_range([entry.positives for entry in found[name].values()]),
            records=_range([entry.records for entry in found[name].values()]),
            rare=name in rare,
            scores=found[name],
        )
        for name in ordered
    ]


def _strength(entries: Iterable[ClassScore], column: Column) -> tuple[bool, float]:
    values = [entry.scores[column.primary].value for entry in entries if column.primary in entry.scores]
    if not values or column.metric is None:
        return True, 0.0
    mean = sum(values) / len(values)
    return False, mean if column.metric.higher_is_better else -mean


def _range(counts: Sequence[int]) -> str:
    return f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,}–{max(counts):,}"
