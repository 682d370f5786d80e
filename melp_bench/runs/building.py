"""Names of a recipe become built objects: the model, and the objectives of each stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from melp_bench.checkpoint import Manifest, load_weights, read_assets, read_manifest
from melp_bench.components import Objective, TextSource
from melp_bench.errors import UserError
from melp_bench.model import Model, widths_of
from melp_bench.plugins import Catalogue
from melp_bench.pretrain.step import Step
from melp_bench.pretrain.views import Views
from melp_bench.protocol import Pretrain
from melp_bench.recipe import Part, Recipe, Stage
from melp_bench.registry import Entry
from melp_bench.runs.components import build_component
from melp_bench.store import Store

T = TypeVar("T")


def build_model(recipe: Recipe, catalogue: Catalogue, source: TextSource, seed: int) -> Model:
    """Return the recipe's encoders and heads, randomly initialised from `seed`."""
    torch.manual_seed(seed)
    encoder = _build(catalogue.ecg_encoders[recipe.encoder.name], recipe.encoder)
    text = None
    if recipe.text is not None:
        text = _build(catalogue.text_encoders[recipe.text.name], recipe.text, source)
    heads = None
    if recipe.heads is not None:
        heads = _build(catalogue.heads[recipe.heads.name], recipe.heads, widths_of(encoder, text))
    return Model(encoder, text, heads)


def build_objectives(stage: Stage, catalogue: Catalogue, model: Model, classes: int) -> dict[str, Objective]:
    """Return the objectives of a stage by the names of their terms.

    Raises:
        UserError: an option does not fit, or an objective cannot train the model's encoder.
    """
    sizes, made = model.sizes(classes), {}
    for part in stage.objectives:
        objective = _build(catalogue.objectives[part.name], part, sizes)
        if (reason := objective.fits(model.encoder)) is not None:
            raise UserError(f"objective {part.name!r} of stage {stage.name!r} cannot train this encoder: {reason}")
        made[part.term] = objective
    return made


def build_step(stage: Stage, catalogue: Catalogue, model: Model, classes: int) -> Step:
    """Return the stage's training step: the model with its objectives.

    Raises:
        UserError: an objective reads what the recipe has not, such as reports without a text encoder.
    """
    views = {part.term: build_views(part.views, catalogue) for part in stage.objectives}
    return Step(model, build_objectives(stage, catalogue, model, classes), views, ema=stage.optimiser.ema)


def build_views(named: Mapping[str, Sequence[Part]], catalogue: Catalogue) -> Views:
    """Return what each view that a recipe names is made of.

    Raises:
        UserError: an option is unknown or out of its range.
    """
    return {name: [_build(catalogue.views[part.name], part) for part in made] for name, made in named.items()}


def check_recipe(recipe: Recipe, catalogue: Catalogue, classes: int, mute: Sequence[str] = ()) -> None:
    """Check, before any work, that every stage can be trained: built once from a vocabulary of two words, and thrown away.

    `mute` are datasets of the corpus of which no record has a report.

    Raises:
        UserError: an objective does not fit the encoder, reads what is not there, or cannot be built.
    """
    with torch.random.fork_rng(devices=[]):
        model = build_model(recipe, catalogue, TextSource(reports=["normal ecg."]), seed=0)
        for stage in recipe.stages:
            step = build_step(stage, catalogue, model, classes)
            model.freeze(stage.untrained(recipe.present()))()
            if stage.reports is not None and step.reads_signals:
                raise UserError(f"stage {stage.name!r} has reports of its own, and an objective of it reads records")
            if mute and step.reads_reports and stage.reports is None:
                raise UserError(
                    f"stage {stage.name!r} of {recipe.name!r} reads reports, and no record of {', '.join(mute)} has one; "
                    "pretrain on records with reports, or choose a recipe that reads none"
                )


def pretraining_labels(budget: Pretrain, store: Store) -> NDArray[np.bool_] | None:
    """Return the labels (N, C) that supervised objectives learn from; None where the corpus has no task of that name.

    Raises:
        UnknownName: the protocol names a task, and the corpus has none of that name.
    """
    named = "labels" in budget.model_fields_set or budget.labels in store.tasks
    return store.labels(budget.labels) if named else None


def num_classes(budget: Pretrain, store: Store) -> int:
    """Return how many classes the pretraining labels have; 0 without any."""
    labels = pretraining_labels(budget, store)
    return 0 if labels is None else labels.shape[1]


def _build(entry: Entry[T], part: Part, *given: object) -> T:
    """Return the component of a recipe's `part`."""
    return build_component(entry, part.options, *given)


def load_model(folder: Path, catalogue: Catalogue) -> tuple[Model, Manifest]:
    """Return the model of a checkpoint, with its weights."""
    manifest = read_manifest(folder)
    source = TextSource(assets=read_assets(folder, manifest))
    model = build_model(manifest.recipe, catalogue, source, seed=0)
    load_weights(folder, manifest, model)
    return model, manifest
