"""What differs between two recipes, place by place, and what is the same: a pure function of both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from melp_bench.recipe import TRAINED_PARTS, Part, Recipe, Stage, WeightedObjective

NOTHING = "-"
"""What stands where one of the two has nothing of the kind."""


@dataclass(frozen=True)
class SettingDifference:
    """One place at which two recipes, or two protocols, say different things."""

    place: str
    one: str
    two: str


@dataclass(frozen=True)
class Comparison:
    """All that differs between two recipes, and in words what is the same, in the order of a recipe."""

    differences: tuple[SettingDifference, ...]
    same: tuple[str, ...]


Found = Iterator[SettingDifference | str]
"""What differs, and in words what is the same, as it is come upon."""


def compare(one: Recipe, two: Recipe) -> Comparison:
    """Return what differs between two resolved recipes; their names, summaries and sources are not looked at.

    Stages are told by their names, or are one another's counterpart where each recipe has only one; terms by theirs. Of a
    component that both have, each option that differs is a difference; of two different ones, the components are.
    """
    found = [*_parts(one, two), *_stages(one, two)]
    differences = tuple(item for item in found if isinstance(item, SettingDifference))
    return Comparison(differences, tuple(item for item in found if isinstance(item, str)))


def _parts(one: Recipe, two: Recipe) -> Found:
    for name in TRAINED_PARTS:
        first, second = getattr(one, name), getattr(two, name)
        if first is not None or second is not None:
            yield from _part("text encoder" if name == "text" else name, first, second)


def _part(place: str, one: Part | None, two: Part | None) -> Found:
    """Yield what differs between two components, and that they are the same, or that the rest of their options is."""
    if one is None or two is None or one.name != two.name:
        yield SettingDifference(place, _told(one), _told(two))
        return
    changed = list(unequal(f"{place}.", one.options, two.options))
    yield from changed
    alike = len(one.options.keys() | two.options.keys()) - len(changed)
    named = place if place == one.name else f"{place} {one.name}"
    if not changed:
        yield named
    elif alike:
        yield f"{'an option' if alike == 1 else f'{alike} other options'} of {named}"


def _stages(one: Recipe, two: Recipe) -> Found:
    for place, first, second in _paired(one.stages, two.stages):
        if first is None or second is None:
            yield SettingDifference(f"stage {place}", _stage_told(first), _stage_told(second))
        elif first.model_copy(update={"name": second.name}) == second:
            yield f"stage {place}"
        else:
            yield from _stage(place, first, second)


def _paired(one: Sequence[Stage], two: Sequence[Stage]) -> Iterator[tuple[str, Stage | None, Stage | None]]:
    """Yield stages that are one another's counterpart under their name, in the first recipe's order, then the second's."""
    if len(one) == len(two) == 1:
        names = dict.fromkeys((one[0].name, two[0].name))
        yield " / ".join(names), one[0], two[0]
        return
    first, second = ({stage.name: stage for stage in stages} for stages in (one, two))
    for name in dict.fromkeys((*first, *second)):
        yield name, first.get(name), second.get(name)


def _stage(place: str, one: Stage, two: Stage) -> Found:
    """Yield what differs between two stages: terms, optimiser, and how they are trained."""
    first, second = ({term.term: term for term in stage.objectives} for stage in (one, two))
    for name in dict.fromkeys((*first, *second)):
        yield from _term(f"{place}: {name}", first.get(name), second.get(name))
    yield from unequal(f"{place}: ", _settings(one), _settings(two))
    rates = list(unequal(f"{place}: ", one.optimiser.model_dump(), two.optimiser.model_dump()))
    yield from rates
    yield f"{'the rest of the ' if rates else ''}optimiser of {place}"


def _settings(stage: Stage) -> dict[str, Any]:
    return stage.model_dump(exclude={"name", "objectives", "optimiser"})


def _term(place: str, one: WeightedObjective | None, two: WeightedObjective | None) -> Found:
    """Yield what differs between two terms of a loss."""
    if one is None or two is None or one.name != two.name:
        yield SettingDifference(place, _term_told(one), _term_told(two))
        return
    beside = [f"{place}.{key}" for key in ("weight", "views")]
    values = ((one.weight, two.weight), (one.views, two.views))
    changed = [SettingDifference(where, _text(a), _text(b)) for where, (a, b) in zip(beside, values, strict=True) if a != b]
    options = list(unequal(f"{place}.", one.options, two.options))
    yield from (*changed, *options)
    yield f"the rest of {place}" if changed or options else place


def unequal(place: str, one: Mapping[str, Any], two: Mapping[str, Any]) -> Iterator[SettingDifference]:
    """Yield what differs between two tables, key by key behind their place; a list is a tuple."""
    for key in dict.fromkeys((*one, *two)):
        if key in one and key in two and isinstance(one[key], list | tuple) and list(one[key]) == list(two[key] or ()):
            continue
        if key not in one or key not in two or one[key] != two[key]:
            yield SettingDifference(place + key, *(_text(table[key]) if key in table else NOTHING for table in (one, two)))


def _told(part: Part | None) -> str:
    return NOTHING if part is None else " ".join([part.name, *(f"{k}={_text(v)}" for k, v in part.options.items())])


def _term_told(term: WeightedObjective | None) -> str:
    if term is None:
        return NOTHING
    views = [f"views={_text(term.views)}"] if term.views else []
    return " ".join([f"{term.weight:g} x {_told(term)}", *views])


def _stage_told(stage: Stage | None) -> str:
    """Return a stage in words: its share, its terms, and what of it is not the default."""
    if stage is None:
        return NOTHING
    terms = " + ".join(_term_told(term) for term in stage.objectives)
    kept = stage.model_dump(exclude={"name", "objectives", "share"}, exclude_defaults=True)
    optimiser = kept.pop("optimiser", {})
    more = [f"{key} {_text(value)}" for key, value in (kept | optimiser).items()]
    return "; ".join([f"{stage.share:.0%} of the steps", terms, *more])


def _text(value: Any) -> str:
    """Return an option's value in words."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items()) or "none"
    if isinstance(value, Part):
        return _told(value)
    return "none" if value is None or value == "" else str(value)
