"""From a component's name to what its speed is measured of, with the model around it that an objective needs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from melp_bench.components import TextSource
from melp_bench.errors import UnknownName, UserError
from melp_bench.plugins import Catalogue
from melp_bench.recipe import Recipe, Stage, load_recipe, recipe_names
from melp_bench.registry import Registry, nearest
from melp_bench.runs.building import build_model, build_step
from melp_bench.runs.components import build_component, num_parameters_of
from melp_bench.runs.resolution import resolve
from melp_bench.runs.scaling import CLASSES, made_batch, report_of
from melp_bench.throughput.data_path import PATHS, path_subject
from melp_bench.throughput.rows import DATA_PATH, KINDS, OBJECTIVE, TEXT_ENCODER, SubjectName, Work
from melp_bench.throughput.subject import Subject, encoder_subject, objective_subject, text_subject

WORDS = (5, 10, 15, 20, 25, 30)
"""Reports have so many words, in turn."""


def all_names(catalogue: Catalogue, kinds: Sequence[str] = KINDS) -> tuple[list[SubjectName], dict[str, str]]:
    """Return all of these kinds that a speed can be measured of, and by kind and name what it cannot, with the reason."""
    found, left_out = list[SubjectName](), dict[str, str]()
    for kind in kinds:
        for name in _known(kind, catalogue):
            try:
                found.append(_subject_name(kind, name, {}, catalogue))
            except UserError as reason:
                left_out[f"{kind} {name}"] = str(reason)
    return found, left_out


def subject_names(names: Sequence[str], options: Mapping[str, Any], catalogue: Catalogue) -> list[SubjectName]:
    """Return what `names` stand for: components of any kind that has a speed, and ways of reading records.

    Raises:
        UnknownName: nothing that has a speed is named so.
        UserError: an option does not fit, or no recipe has the objective.
    """
    found = []
    for name in names:
        kinds = [kind for kind in KINDS if name in _known(kind, catalogue)]
        if not kinds:
            known = [one for kind in KINDS for one in _known(kind, catalogue)]
            raise UnknownName(
                f"no encoder, objective or way of reading records is named {name!r}{nearest(name, known)} "
                "`melp-bench list` shows what is installed"
            )
        found += [_subject_name(kind, name, options, catalogue) for kind in kinds]
    return found


def subject(name: SubjectName, catalogue: Catalogue, work: Work, device: torch.device, folder: Path) -> Subject:
    """Return what is measured, on `device`; ways of reading write their records below `folder`.

    Raises:
        UserError: it cannot be built.
    """
    if name.kind == DATA_PATH:
        return path_subject(name, folder, work, device)
    reports = [report_of(WORDS[number % len(WORDS)]) for number in range(work.batch)]
    if name.kind == OBJECTIVE:
        return _objective(name, catalogue, reports, work, device)
    if name.kind == TEXT_ENCODER:
        text = build_component(catalogue.text_encoders[name.name], name.options, TextSource(reports=reports))
        return text_subject(name, text, reports, work, device)
    return encoder_subject(name, build_component(catalogue.ecg_encoders[name.name], name.options), work, device)


def recipe_with(objective: str, catalogue: Catalogue) -> str:
    """Return the shipped recipe that an objective is measured in: of those with the smallest encoder, the first by name.

    One whose text encoder is read from elsewhere comes last.

    Raises:
        UserError: no recipe has the objective.
    """
    having = {name: recipe for name, recipe in _shipped().items() if _stage_with(objective, recipe) is not None}
    if not having:
        raise UserError(f"no shipped recipe has the objective {objective!r}, whose model would make its inputs")

    def cost(name: str) -> tuple[bool, float, str]:
        encoder, text = having[name].encoder, having[name].text
        size = num_parameters_of(catalogue.ecg_encoders[encoder.name], encoder.options)
        elsewhere = text is not None and catalogue.text_encoders[text.name].reads is not None
        return elsewhere, math.inf if size is None else size, name

    return min(having, key=cost)


def _subject_name(kind: str, name: str, options: Mapping[str, Any], catalogue: Catalogue) -> SubjectName:
    """Return the name with every option filled in and checked."""
    if kind == DATA_PATH:
        if options:
            raise UserError(f"{name!r} has no options; leave out {', '.join(options)}")
        return SubjectName(kind=kind, name=name)
    entry = _registry(kind, catalogue)[name]
    if kind != OBJECTIVE:
        return SubjectName(kind=kind, name=name, options=entry.resolve(options))
    recipe = recipe_with(name, catalogue)
    stage = _stage_with(name, _shipped()[recipe])
    said = next(part.options for part in stage.objectives if part.name == name) if stage else {}
    return SubjectName(kind=kind, name=name, options=entry.resolve({**said, **options}), recipe=recipe)


def _objective(name: SubjectName, catalogue: Catalogue, reports: Sequence[str], work: Work, device: torch.device) -> Subject:
    """Return an objective in its recipe's stage, by itself, at what the recipe's model makes of a batch of noise."""
    recipe = resolve(_shipped()[name.recipe], catalogue, {})
    stage = _stage_with(name.name, recipe)
    if stage is None:
        raise UserError(f"recipe {name.recipe!r} has no objective {name.name!r}")
    (part, *_) = (part for part in stage.objectives if part.name == name.name)
    alone = stage.model_copy(update={"objectives": [part.model_copy(update={"options": name.options})]})
    model = build_model(recipe, catalogue, TextSource(reports=reports), seed=0)
    step = build_step(alone, catalogue, model, CLASSES).to(device)
    batch = made_batch(step, reports, device)
    return objective_subject(name, step, part.term, batch, work)


@cache
def _shipped() -> dict[str, Recipe]:
    """Return every shipped recipe, by name."""
    return {name: load_recipe(name) for name in recipe_names()}


def _stage_with(objective: str, recipe: Recipe) -> Stage | None:
    """Return the last stage of a recipe that has the objective; None if none has."""
    having = [stage for stage in recipe.stages if objective in [part.name for part in stage.objectives]]
    return having[-1] if having else None


def _registry(kind: str, catalogue: Catalogue) -> Registry[Any]:
    return next(registry for registry in catalogue.registries() if registry.kind == kind)


def _known(kind: str, catalogue: Catalogue) -> list[str]:
    """Return the names of a kind."""
    return list(PATHS) if kind == DATA_PATH else [entry.name for entry in _registry(kind, catalogue)]
