"""A recipe with every option filled in and checked, and with what was set on the command line applied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from melp_bench.errors import UserError
from melp_bench.plugins import Catalogue
from melp_bench.recipe import OPTIONAL, PREVIOUS, RANDOM, Optimiser, Recipe
from melp_bench.registry import Registry, nearest
from melp_bench.schema import first_problem

DEFAULTS = Optimiser().model_dump(mode="json")


def resolve(recipe: Recipe, catalogue: Catalogue, settings: Mapping[str, str]) -> Recipe:
    """Return the recipe with `settings` ("encoder.layers" -> "6") applied and every option filled in and checked.

    A recipe that was changed says so in its name.

    Raises:
        UnknownName: a component or a view is not installed.
        UserError: a setting or an option does not fit, or a stage starts from a stage that is not before it.
    """
    data = recipe.model_dump()
    for path, value in settings.items():
        _set(data, path, value)
    changed = f" ({', '.join(f'{p}={v}' for p, v in settings.items())})" if settings else ""
    data["name"] = recipe.name + changed
    for part, registry in _parts(data, catalogue):
        part["options"] = registry[part["name"]].resolve(part["options"])
    try:
        resolved = Recipe.model_validate(data)
    except ValidationError as error:
        raise UserError(f"--set: recipe {recipe.name!r}: {first_problem(error, Recipe)}") from error
    _check_starts(resolved)
    return resolved


def recipe_content(recipe: Recipe) -> dict[str, Any]:
    """Return what a recipe's weights depend on; its name and its description are not among it.

    What an optimiser may leave out is not among it either, where it does.
    """
    content = recipe.model_dump(mode="json", exclude={"name", "summary", "source"})
    for stage in content["stages"]:
        said = stage["optimiser"]
        stage["optimiser"] = {key: said[key] for key in said if key not in OPTIONAL or said[key] != DEFAULTS[key]}
    return content


def _parts(data: dict[str, Any], catalogue: Catalogue) -> Iterator[tuple[dict[str, Any], Registry[Any]]]:
    """Yield every component that a recipe names, with the registry that it is looked up in."""
    yield data["encoder"], catalogue.ecg_encoders
    if data["text"] is not None:
        yield data["text"], catalogue.text_encoders
    if data["heads"] is not None:
        yield data["heads"], catalogue.heads
    for term in _terms(data):
        yield term, catalogue.objectives
        for chain in term["views"].values():
            yield from ((part, catalogue.views) for part in chain)


def _terms(data: dict[str, Any]) -> list[dict[str, Any]]:
    return [term for stage in data["stages"] for term in stage["objectives"]]


def _set(data: dict[str, Any], path: str, value: str) -> None:
    """Set PART.OPTION, TERM.weight, TERM.OPTION, optimiser.FIELD of every stage, or STAGE.share, STAGE.optimiser.FIELD."""
    head, _, rest = path.partition(".")
    stages = {stage["name"]: stage for stage in data["stages"]}
    targets: list[tuple[dict[str, Any], str]] = []
    if head in ("encoder", "text", "heads") and rest and data[head] is not None:
        targets = [(data[head]["options"], rest)]
    elif head == "optimiser":
        targets = [(stage["optimiser"], rest) for stage in stages.values() if rest in stage["optimiser"]]
    elif head in stages and rest.startswith("optimiser."):
        field = rest.removeprefix("optimiser.")
        targets = [(stages[head]["optimiser"], field)] if field in stages[head]["optimiser"] else []
    elif head in stages and rest in ("share", "reports"):
        targets = [(stages[head], rest)]
    elif rest:
        mine = [term for term in _terms(data) if term["term"] == head]
        targets = [(term if rest == "weight" else term["options"], rest) for term in mine]
    if not targets:
        terms = dict.fromkeys(f"{term['term']}." for term in _terms(data))
        parts = [f"{part}." for part in ("encoder", "text", "heads") if data[part] is not None]
        known = [*parts, "optimiser.", *(f"{name}.share" for name in stages), *terms]
        raise UserError(
            f"--set {path}={value}: recipe {data['name']!r} has no {path!r}{nearest(path, known)} "
            f"What can be set: {', '.join(known)}"
        )
    for target, field in targets:
        target[field] = value


def _check_starts(recipe: Recipe) -> None:
    """Check that each part starts from what can be there: no earlier stage is named that is none."""
    before: list[str] = []
    for stage in recipe.stages:
        for part, source in stage.start.items():
            elsewhere = "/" in source or "@" in source or source.startswith(".")
            if source == RANDOM or source in before or elsewhere or (source == PREVIOUS and before):
                continue
            known = [RANDOM, *([PREVIOUS] if before else []), *before]
            raise UserError(
                f"stage {stage.name!r} starts its {part} from {source!r}{nearest(source, known)} It can be {', '.join(known)}, "
                "a checkpoint folder (with a / in it), or ENCODER@FILE"
            )
        before.append(stage.name)
