"""What is put to the test: a name on the command line becomes a method, and a method becomes a model with weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from melp_bench.canonical import digest
from melp_bench.checkpoint import is_checkpoint, read_manifest
from melp_bench.errors import UnknownName, UserError
from melp_bench.plugins import Catalogue
from melp_bench.protocol import Pretrain
from melp_bench.published.folder import obtain_import
from melp_bench.recipe import Part, Recipe, load_recipe, recipe_names
from melp_bench.registry import nearest
from melp_bench.runs.building import check_recipe, num_classes
from melp_bench.runs.identity import checkpoint_identity, weights_identity
from melp_bench.runs.resolution import resolve
from melp_bench.runs.starts import published_file
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
        identity = checkpoint_identity(manifest, catalogue)
        return Method(manifest.recipe.name, manifest.recipe, identity, folder)
    recipe = resolve(find_recipe(text, catalogue, pretrain.recipe if pretrain else None), catalogue, settings)
    if pretrain is None:
        raise UserError(
            f"the protocol has no [pretrain], so {text!r} has no weights; give a checkpoint folder or ENCODER@FILE as --model"
        )
    identity = weights_identity(recipe, pretrain, stores[pretrain.dataset], catalogue)
    folder = checkpoints / f"{_file_name(recipe.name)}-{digest(identity)[:12]}"
    if not is_checkpoint(folder):
        check_recipe(recipe, catalogue, num_classes(pretrain, stores[pretrain.dataset]))
    return Method(recipe.name, recipe, identity, folder)


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
