"""What is put to the test: a name on the command line becomes a method, and a method becomes a model with weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import ValidationError

from melp_bench.canonical import digest
from melp_bench.checkpoint import Manifest, is_checkpoint, load_weights, read_assets, read_manifest
from melp_bench.code_digest import code_digest
from melp_bench.components import ECGEncoder, Objective, TextSource
from melp_bench.errors import UnknownName, UserError
from melp_bench.model import Model
from melp_bench.plugins import Catalogue
from melp_bench.protocol import Pretrain
from melp_bench.published.folder import obtain_import
from melp_bench.recipe import Part, Recipe, load_recipe, recipe_names
from melp_bench.registry import Entry, nearest
from melp_bench.runs.components import build_component
from melp_bench.runs.versions import FEATURES, WEIGHTS
from melp_bench.schema import first_problem
from melp_bench.store import Store

T = TypeVar("T")

BARE_ENCODER_RECIPE = "melp"
"""An encoder named alone is pretrained as MELP is, in the place of MELP's own encoder."""


@dataclass(frozen=True)
class Method:
    """A row's model before it has weights: a recipe to pretrain, or a checkpoint to load.

    Attributes:
        label: the name a reader sees.
        identity: everything its weights depend on, as plain JSON; part of every row's key.
        folder: where its checkpoint is, or will be.
    """

    label: str
    recipe: Recipe
    identity: dict[str, Any]
    folder: Path


def find_method(
    text: str,
    catalogue: Catalogue,
    *,
    settings: Mapping[str, str],
    pretrain: Pretrain | None,
    stores: Mapping[str, Store],
    checkpoints: Path,
) -> Method:
    """Return the method that `text` names: a checkpoint folder, ENCODER@FILE, RECIPE, RECIPE+ENCODER, .toml file or ENCODER.

    ENCODER@FILE is a published file, imported to `checkpoints` unless it was before.

    Raises:
        UnknownName: it names nothing.
        UserError: it must be pretrained, and the protocol says nothing of pretraining; or settings are given for a checkpoint.
    """
    folder = Path(text)
    if not is_checkpoint(folder) and (published := published_file(text, catalogue)) is not None:
        folder = obtain_import(published[1], published[0], checkpoints)
    if is_checkpoint(folder):
        if settings:
            raise UserError(f"{text!r} is a checkpoint, whose recipe is settled; leave out --set, or name a recipe")
        manifest = read_manifest(folder)
        identity = {"weights": manifest.weights_sha256, "recipe": _content(manifest.recipe)}
        identity["code"] = use_code(manifest.recipe, catalogue)
        return Method(manifest.recipe.name, manifest.recipe, identity, folder)
    recipe = resolve(find_recipe(text, catalogue), catalogue, settings)
    if pretrain is None:
        raise UserError(
            f"the protocol has no [pretrain], so {text!r} has no weights; give a checkpoint folder or ENCODER@FILE as --model"
        )
    identity = _identity(recipe, pretrain, stores[pretrain.dataset], training_code(recipe, catalogue))
    return Method(recipe.name, recipe, identity, checkpoints / f"{_file_name(recipe.name)}-{digest(identity)[:12]}")


def published_file(text: str, catalogue: Catalogue) -> tuple[Entry[ECGEncoder], str] | None:
    """Return the encoder and the file that ENCODER@FILE names; None where `text` is of another form.

    Raises:
        UnknownName: no encoder has the name before the @.
    """
    name, at, where = text.partition("@")
    if not at or "/" in name or name.endswith(".toml"):
        return None
    return catalogue.ecg_encoders[name], where


def _identity(recipe: Recipe, pretrain: Pretrain, store: Store, code: Mapping[str, str]) -> dict[str, Any]:
    """Return everything that the weights of a recipe pretrained on `store` depend on."""
    identity: dict[str, Any] = {"recipe": _content(recipe), "seed": pretrain.seed, "code": dict(code)}
    if recipe.text is not None:
        identity["data"] = store.fingerprint  # its vocabulary is learned from the reports
    if recipe.objectives:
        budget = pretrain.model_dump(mode="json", exclude={"dataset"})
        identity |= {"budget": budget, "data": store.fingerprint, "versions": WEIGHTS}
        if pretrain.labels in store.tasks:
            identity["labels"] = store.task_digest(pretrain.labels)
    return identity


def _file_name(name: str) -> str:
    """Return a recipe's name as it can stand in a path: nothing that leads elsewhere, nothing a shell reads."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip("-.")[:60] or "recipe"


def find_recipe(text: str, catalogue: Catalogue) -> Recipe:
    """Return the recipe that RECIPE, RECIPE+ENCODER, a .toml file or ENCODER stands for.

    Raises:
        UnknownName: it stands for none.
        UserError: it is a folder without a checkpoint.
    """
    name, _, encoder = text.partition("+")
    if not encoder and not name.endswith(".toml") and name not in recipe_names():
        if name not in catalogue.ecg_encoders:
            if Path(text).is_dir():
                raise UserError(f"{text!r} is a folder without a checkpoint in it; `melp-bench pretrain` makes one")
            known = [*recipe_names(), *(entry.name for entry in catalogue.ecg_encoders)]
            raise UnknownName(
                f"no recipe, ECG encoder or checkpoint folder named {text!r}{nearest(text, known)} Known: {', '.join(known)}"
            )
        recipe = load_recipe(BARE_ENCODER_RECIPE)
        return recipe.model_copy(update={"name": name, "encoder": Part(name=name)})
    recipe = load_recipe(name)
    if encoder:
        recipe = recipe.model_copy(
            update={"name": f"{recipe.name}+{encoder}", "encoder": Part(name=catalogue.ecg_encoders[encoder].name)}
        )
    return recipe


def resolve(recipe: Recipe, catalogue: Catalogue, settings: Mapping[str, str]) -> Recipe:
    """Return the recipe with `settings` ("encoder.layers" -> "6") applied and every option filled in and checked.

    A recipe that was changed says so in its name.
    """
    data = recipe.model_dump()
    for path, value in settings.items():
        _set(data, path, value)
    changed = f" ({', '.join(f'{p}={v}' for p, v in settings.items())})" if settings else ""
    data["name"] = recipe.name + changed
    data["encoder"]["options"] = catalogue.ecg_encoders[recipe.encoder.name].resolve(data["encoder"]["options"])
    if recipe.text is not None:
        data["text"]["options"] = catalogue.text_encoders[recipe.text.name].resolve(data["text"]["options"])
    for part in data["objectives"]:
        part["options"] = catalogue.objectives[part["name"]].resolve(part["options"])
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise UserError(f"--set: recipe {recipe.name!r}: {first_problem(error, Recipe)}") from error


def _set(data: dict[str, Any], path: str, value: str) -> None:
    """Set `encoder.OPTION`, `text.OPTION`, `OBJECTIVE.weight`, `OBJECTIVE.OPTION`, `optimiser.FIELD` or a field of its own."""
    head, _, rest = path.partition(".")
    objectives = {part["name"]: part for part in data["objectives"]}
    if head in ("encoder", "text") and rest and data[head] is not None:
        data[head]["options"][rest] = value
    elif head in objectives and rest:
        target = objectives[head] if rest == "weight" else objectives[head]["options"]
        target[rest] = value
    elif head == "optimiser" and rest in data["optimiser"]:
        data["optimiser"][rest] = value
    elif path in ("shared_width", "segment_queries"):
        data[path] = value
    else:
        known = ["encoder.", "text.", "optimiser.", "shared_width", "segment_queries", *(f"{name}." for name in objectives)]
        raise UserError(
            f"--set {path}={value}: recipe {data['name']!r} has no {path!r}{nearest(path, known)} "
            f"What can be set: {', '.join(known)}"
        )


def _content(recipe: Recipe) -> dict[str, Any]:
    """Return what a recipe's weights depend on; its name and its description are not among it."""
    return recipe.model_dump(mode="json", exclude={"name", "summary", "source"})


def use_digest(manifest: Manifest) -> str:
    """Return the digest of a checkpoint's weights and of the options they are used with."""
    recipe = _content(manifest.recipe)
    return digest({"weights": manifest.weights_sha256} | {k: recipe[k] for k in ("encoder", "shared_width", "segment_queries")})


def features_digest(manifest: Manifest, catalogue: Catalogue) -> str:
    """Return the digest of all that a checkpoint's features depend on besides the records they are of."""
    return digest({"use": use_digest(manifest), "code": use_code(manifest.recipe, catalogue), "versions": FEATURES})


def use_code(recipe: Recipe, catalogue: Catalogue) -> dict[str, str]:
    """Return the digests of the code that a recipe's weights are used with, by component."""
    code = {f"ECG encoder {recipe.encoder.name}": code_digest(catalogue.ecg_encoders[recipe.encoder.name])}
    if recipe.text is not None:
        code[f"text encoder {recipe.text.name}"] = code_digest(catalogue.text_encoders[recipe.text.name])
    return code


def training_code(recipe: Recipe, catalogue: Catalogue) -> dict[str, str]:
    """Return the digests of the code that makes a recipe's weights, by component."""
    parts = {part.name: catalogue.objectives[part.name] for part in recipe.objectives}
    return use_code(recipe, catalogue) | {f"objective {name}": code_digest(entry) for name, entry in parts.items()}


# ------------------------------------------------------------------------------------------------------------- building


def build_model(recipe: Recipe, catalogue: Catalogue, source: TextSource, seed: int) -> Model:
    """Return the recipe's encoders and heads, randomly initialised from `seed`."""
    torch.manual_seed(seed)
    encoder = _build(catalogue.ecg_encoders[recipe.encoder.name], recipe.encoder)
    text = None
    if recipe.text is not None:
        text = _build(catalogue.text_encoders[recipe.text.name], recipe.text, source)
    return Model(encoder, text, shared=recipe.shared_width, segment_queries=recipe.segment_queries)


def build_objectives(recipe: Recipe, catalogue: Catalogue, model: Model, classes: int) -> dict[str, Objective]:
    """Return the recipe's objectives by name."""
    sizes = model.sizes(classes)
    return {part.name: _build(catalogue.objectives[part.name], part, sizes) for part in recipe.objectives}


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
