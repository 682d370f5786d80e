"""What is put to the test: a name on the command line becomes a method, and a method becomes a model with weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from melp_bench.canonical import digest
from melp_bench.checkpoint import Manifest, is_checkpoint, read_manifest
from melp_bench.code_digest import code_digest
from melp_bench.errors import UnknownName, UserError
from melp_bench.plugins import Catalogue
from melp_bench.protocol import Pretrain
from melp_bench.published.folder import obtain_import
from melp_bench.recipe import Part, Recipe, load_recipe, recipe_names
from melp_bench.registry import nearest
from melp_bench.runs.building import check_recipe, num_classes
from melp_bench.runs.ranks import num_ranks
from melp_bench.runs.resolution import recipe_content, resolve
from melp_bench.runs.starts import digests_of_starts, published_file
from melp_bench.runs.versions import FEATURES, WEIGHTS
from melp_bench.store import Store


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
        identity = {"weights": manifest.weights_sha256, "recipe": recipe_content(manifest.recipe)}
        identity["code"] = use_code(manifest.recipe, catalogue)
        return Method(manifest.recipe.name, manifest.recipe, identity, folder)
    recipe = resolve(find_recipe(text, catalogue, pretrain.recipe if pretrain else None), catalogue, settings)
    if pretrain is None:
        raise UserError(
            f"the protocol has no [pretrain], so {text!r} has no weights; give a checkpoint folder or ENCODER@FILE as --model"
        )
    identity = _identity(recipe, pretrain, stores[pretrain.dataset], catalogue)
    folder = checkpoints / f"{_file_name(recipe.name)}-{digest(identity)[:12]}"
    if not is_checkpoint(folder):
        check_recipe(recipe, catalogue, num_classes(pretrain, stores[pretrain.dataset]))
    return Method(recipe.name, recipe, identity, folder)


def _identity(recipe: Recipe, pretrain: Pretrain, store: Store, catalogue: Catalogue) -> dict[str, Any]:
    """Return everything that the weights of a recipe pretrained on `store` depend on."""
    identity: dict[str, Any] = {"recipe": recipe_content(recipe), "seed": pretrain.seed}
    identity["code"] = training_code(recipe, catalogue)
    if recipe.text is not None:
        identity["data"] = store.fingerprint  # its vocabulary is learned from the reports
    if recipe.stages:
        budget = pretrain.model_dump(mode="json", exclude={"dataset", "recipe"})
        identity |= {"budget": budget, "data": store.fingerprint, "versions": WEIGHTS}
        identity |= digests_of_starts(recipe, catalogue)
        if num_ranks() > 1:
            identity["ranks"] = num_ranks()  # whose batch statistics are their own
        if pretrain.labels in store.tasks:
            identity["labels"] = store.task_digest(pretrain.labels)
    return identity


def _file_name(name: str) -> str:
    """Return a recipe's name as it can stand in a path: nothing that leads elsewhere, nothing a shell reads."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip("-.")[:60] or "recipe"


def find_recipe(text: str, catalogue: Catalogue, of_encoders: str | None = None) -> Recipe:
    """Return the recipe that RECIPE, RECIPE+ENCODER, a .toml file or ENCODER stands for.

    An ENCODER alone takes the place of the encoder in the recipe `of_encoders`, as a protocol names it.

    Raises:
        UnknownName: it stands for none.
        UserError: it is a folder without a checkpoint, or an encoder alone where no recipe is named for it.
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
        if of_encoders is None:
            choice = ", ".join(f"{recipe}+{name}" for recipe in recipe_names())
            raise UserError(f"{name!r} is an encoder, and the protocol names no recipe to train one by; choose: {choice}")
        recipe = load_recipe(of_encoders)
        return recipe.model_copy(update={"name": name, "encoder": Part(name=name)})
    recipe = load_recipe(name)
    if encoder:
        recipe = recipe.model_copy(
            update={"name": f"{recipe.name}+{encoder}", "encoder": Part(name=catalogue.ecg_encoders[encoder].name)}
        )
    return recipe


def use_digest(manifest: Manifest) -> str:
    """Return the digest of a checkpoint's weights and of the options they are used with."""
    recipe = recipe_content(manifest.recipe)
    return digest({"weights": manifest.weights_sha256} | {part: recipe[part] for part in ("encoder", "heads")})


def features_digest(manifest: Manifest, catalogue: Catalogue) -> str:
    """Return the digest of all that a checkpoint's features depend on besides the records they are of."""
    return digest({"use": use_digest(manifest), "code": use_code(manifest.recipe, catalogue), "versions": FEATURES})


def use_code(recipe: Recipe, catalogue: Catalogue) -> dict[str, str]:
    """Return the digests of the code that a recipe's weights are used with, by component."""
    code = {f"ECG encoder {recipe.encoder.name}": code_digest(catalogue.ecg_encoders[recipe.encoder.name])}
    if recipe.text is not None:
        code[f"text encoder {recipe.text.name}"] = code_digest(catalogue.text_encoders[recipe.text.name])
    if recipe.heads is not None:
        code[f"heads {recipe.heads.name}"] = code_digest(catalogue.heads[recipe.heads.name])
    return code


def training_code(recipe: Recipe, catalogue: Catalogue) -> dict[str, str]:
    """Return the digests of the code that makes a recipe's weights, by component."""
    code = use_code(recipe, catalogue)
    for term in recipe.terms():
        code[f"objective {term.name}"] = code_digest(catalogue.objectives[term.name])
        for view in (view for chain in term.views.values() for view in chain):
            code[f"view {view.name}"] = code_digest(catalogue.views[view.name])
    return code
