"""What is put to the test: a reference becomes a candidate, whose rows' keys are known, and nothing is made or imported yet."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from melp_bench.canonical import digest
from melp_bench.checkpoint import Manifest, is_checkpoint, read_manifest
from melp_bench.code_digest import code_digest
from melp_bench.errors import UserError
from melp_bench.plugins import Catalogue
from melp_bench.pretrain.engine import PLAIN, Engine
from melp_bench.protocol import Pretrain
from melp_bench.published.folder import import_path
from melp_bench.published.tensor_files import chosen_part, file_sha256, locate
from melp_bench.recipe import Part, Recipe, load_recipe
from melp_bench.runs.building import check_recipe, num_classes
from melp_bench.runs.corpora import corpus_of, data_of, without_reports
from melp_bench.runs.ranks import num_ranks
from melp_bench.runs.references import CheckpointReference, PublishedReference, RecipeReference, Reference
from melp_bench.runs.resolution import recipe_content, resolve
from melp_bench.runs.starts import digests_of_starts
from melp_bench.runs.versions import FEATURES, WEIGHTS
from melp_bench.store import Store


@dataclass(frozen=True)
class Candidate:
    """A model before it has weights: a recipe to pretrain, a published file to import, or a checkpoint to load.

    Attributes:
        label: the name a reader sees.
        recipe: what it is made of; of a file that is still to be imported, its encoder with options that the import will tell.
        identity: everything its weights depend on, as plain JSON; part of every row's key.
        folder: where its checkpoint is, or will be.
        published: the file to import, where it is one.
        seed: that it is pretrained by; candidates that differ by it alone have one label, and become one row of a board.
    """

    label: str
    recipe: Recipe
    identity: dict[str, Any]
    folder: Path
    published: PublishedReference | None = None
    seed: int | None = None

    @property
    def told(self) -> str:
        """The label, with the pretraining seed where that is not 0."""
        return f"{self.label} (seed {self.seed})" if self.seed else self.label


OnMade = Callable[[Candidate, Store], object]
"""Called with a candidate that was pretrained, and the store of its corpus."""


def candidate(
    reference: Reference,
    catalogue: Catalogue,
    *,
    settings: Mapping[str, str],
    pretrain: Pretrain | None,
    stores: Mapping[str, Store],
    checkpoints: Path,
    engine: Engine = PLAIN,
) -> Candidate:
    """Return what `reference` stands for under a protocol's budget; its checkpoint is, or will be, under `checkpoints`.

    Raises:
        UnknownName: a component of the recipe is not there.
        UserError: the recipe must be pretrained, and the protocol says nothing of that; settings are given for what has
            weights; or there is no such file.
    """
    if isinstance(reference, RecipeReference):
        return _recipe_candidate(reference, catalogue, settings, pretrain, stores, checkpoints, engine)
    if settings:
        raise UserError(f"{_told(reference)!r} has weights, and so its recipe is settled; leave out --set, or name a recipe")
    if isinstance(reference, CheckpointReference):
        return _checkpoint_candidate(reference.folder, catalogue)
    return _published_candidate(reference, catalogue, checkpoints)


def check_references(references: Sequence[Reference], catalogue: Catalogue, settings: Mapping[str, str]) -> None:
    """Check that the recipes among `references` can be trained, before there is any data: labels are taken to be there.

    Raises:
        UnknownName: there is no such recipe or component.
        UserError: a recipe is not valid, an objective of it cannot train its model, or a published file that would not be
            fetched is not there.
    """
    for reference in references:
        if isinstance(reference, PublishedReference) and not reference.file.startswith("hf:"):
            locate(reference.file)
        if isinstance(reference, RecipeReference):
            check_recipe(resolve(recipe_of(reference), catalogue, settings), catalogue, classes=1)


def _recipe_candidate(
    reference: RecipeReference,
    catalogue: Catalogue,
    settings: Mapping[str, str],
    pretrain: Pretrain | None,
    stores: Mapping[str, Store],
    checkpoints: Path,
    engine: Engine,
) -> Candidate:
    recipe = resolve(recipe_of(reference), catalogue, settings)
    if pretrain is None:
        if not is_untrained(recipe):
            raise UserError(
                f"the protocol has no [pretrain], so {recipe.name!r} has no weights; give a checkpoint folder or ENCODER@FILE"
            )
        pretrain = Pretrain(dataset=next(iter(stores)), steps=1)  # of which an untrained recipe reads the seed
    store = corpus_of(pretrain, stores)
    identity = _identity(recipe, pretrain, store, catalogue, engine)
    folder = checkpoints / f"{file_name(recipe.name)}-{digest(identity)[:12]}"
    if not is_checkpoint(folder):
        check_recipe(recipe, catalogue, num_classes(pretrain, store), without_reports(store))
    return Candidate(recipe.name, recipe, identity, folder, seed=pretrain.seed)


def _checkpoint_candidate(folder: Path, catalogue: Catalogue) -> Candidate:
    """Return the candidate of a folder; an imported one is what its file is, so that both names have the same rows."""
    manifest = read_manifest(folder)
    recipe = manifest.recipe
    identity: dict[str, Any] = {"weights": manifest.weights_sha256, "recipe": recipe_content(recipe)}
    if manifest.source.get("sha256") and recipe.text is None:
        identity = _published_identity(recipe.encoder.name, manifest.source["sha256"], manifest.source.get("part", ""))
    return Candidate(recipe.name, recipe, identity | {"code": use_code(recipe, catalogue)}, folder)


def _published_candidate(reference: PublishedReference, catalogue: Catalogue, checkpoints: Path) -> Candidate:
    entry = reference.encoder
    folder = import_path(reference.file, entry, checkpoints)
    if is_checkpoint(folder):
        return _checkpoint_candidate(folder, catalogue)
    name = f"{entry.name}@{Path(reference.file).name}"
    recipe = Recipe(name=name, summary=f"published weights: {entry.summary}", encoder=Part(name=entry.name))
    identity = _published_identity(entry.name, file_sha256(locate(reference.file)), chosen_part(reference.file))
    return Candidate(name, recipe, identity | {"code": use_code(recipe, catalogue)}, folder, reference)


def _published_identity(encoder: str, sha256: str, part: str) -> dict[str, Any]:
    return {"published": {"encoder": encoder, "sha256": sha256} | ({"part": part} if part else {})}


def recipe_of(reference: RecipeReference) -> Recipe:
    """Return the recipe as its file has it, with the encoder that is named in the place of its own.

    An encoder that was named alone gives its name to the method. One that has its own weights needs no recipe's file.

    Raises:
        UnknownName: there is no such recipe.
    """
    if not reference.recipe:
        part = Part(name=reference.encoder)
        return Recipe(name=reference.encoder, summary="as it is built, with weights of its own", encoder=part)
    recipe = load_recipe(reference.recipe)
    if not reference.encoder:
        return recipe
    name = reference.encoder if reference.alone else f"{recipe.name}+{reference.encoder}"
    return recipe.model_copy(update={"name": name, "encoder": Part(name=reference.encoder)})


def is_untrained(recipe: Recipe) -> bool:
    """Return whether a recipe trains nothing and learns no vocabulary, so that it needs neither budget nor records."""
    return not recipe.stages and recipe.text is None


def _told(reference: CheckpointReference | PublishedReference) -> str:
    if isinstance(reference, CheckpointReference):
        return str(reference.folder)
    return f"{reference.encoder.name}@{reference.file}"


def _identity(recipe: Recipe, pretrain: Pretrain, store: Store, catalogue: Catalogue, engine: Engine) -> dict[str, Any]:
    """Return everything that the weights of a recipe pretrained on `store` depend on."""
    identity: dict[str, Any] = {"recipe": recipe_content(recipe), "seed": pretrain.seed}
    identity["code"] = training_code(recipe, catalogue)
    if files := _files(recipe, catalogue):
        identity["files"] = files
    if recipe.text is not None:
        identity["data"] = data_of(store)  # its vocabulary is learned from the reports
    if recipe.stages:
        budget = pretrain.model_dump(mode="json", exclude={"dataset", "recipe", "seeds"})
        identity |= {"budget": budget, "data": data_of(store), "versions": WEIGHTS}
        identity |= digests_of_starts(recipe, catalogue)
        if num_ranks() > 1:
            identity["ranks"] = num_ranks()  # whose batch statistics are their own
        if chosen := engine.content():
            identity["engine"] = chosen
        if pretrain.labels in store.tasks:
            identity["labels"] = store.task_digest(pretrain.labels)
    return identity


def _files(recipe: Recipe, catalogue: Catalogue) -> dict[str, dict[str, str]]:
    """Return, by part, the digests of the files from elsewhere that a recipe's components start from."""
    read = {"encoder": catalogue.ecg_encoders[recipe.encoder.name].read_digests(recipe.encoder.options)}
    if recipe.text is not None:
        read["text"] = catalogue.text_encoders[recipe.text.name].read_digests(recipe.text.options)
    return {name: digests for name, digests in read.items() if digests}


def file_name(name: str) -> str:
    """Return a recipe's name as it can stand in a path: nothing that leads elsewhere, nothing a shell reads."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip("-.")[:60] or "recipe"


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
