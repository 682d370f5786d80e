"""What weights, features and rows depend on: options, data, seeds, the code of components, and files from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from melp_bench.canonical import digest
from melp_bench.checkpoint import Manifest
from melp_bench.code_digest import code_digest
from melp_bench.plugins import Catalogue
from melp_bench.protocol import Pretrain
from melp_bench.recipe import Part, Recipe
from melp_bench.registry import Entry
from melp_bench.runs.ranks import num_ranks
from melp_bench.runs.resolution import recipe_content
from melp_bench.runs.starts import digests_of_starts
from melp_bench.runs.versions import FEATURES, WEIGHTS
from melp_bench.store import Store


def weights_identity(recipe: Recipe, pretrain: Pretrain, store: Store, catalogue: Catalogue) -> dict[str, Any]:
    """Return everything that the weights of a recipe pretrained on `store` depend on, as plain JSON."""
    identity: dict[str, Any] = {"recipe": recipe_content(recipe), "seed": pretrain.seed}
    identity["code"] = training_code(recipe, catalogue)
    if (files := _files(recipe, catalogue)) != {}:
        identity["files"] = files
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


def checkpoint_identity(manifest: Manifest, catalogue: Catalogue) -> dict[str, Any]:
    """Return what the features of a finished checkpoint depend on, as plain JSON."""
    recipe = manifest.recipe
    return {"weights": manifest.weights_sha256, "recipe": recipe_content(recipe), "code": use_code(recipe, catalogue)}


def use_digest(manifest: Manifest) -> str:
    """Return the digest of a checkpoint's weights and of the options they are used with."""
    recipe = recipe_content(manifest.recipe)
    return digest({"weights": manifest.weights_sha256} | {part: recipe[part] for part in ("encoder", "heads")})


def features_digest(manifest: Manifest, catalogue: Catalogue) -> str:
    """Return the digest of all that a checkpoint's features depend on besides the records they are of."""
    return digest({"use": use_digest(manifest), "code": use_code(manifest.recipe, catalogue), "versions": FEATURES})


def use_code(recipe: Recipe, catalogue: Catalogue) -> dict[str, str]:
    """Return the digests of the code that a recipe's weights are used with, by component."""
    return {kind: code_digest(entry) for kind, entry, _ in _parts(recipe, catalogue)}


def training_code(recipe: Recipe, catalogue: Catalogue) -> dict[str, str]:
    """Return the digests of the code that makes a recipe's weights, by component."""
    terms = [term for stage in recipe.stages for term in stage.objectives]
    views = {part.name for term in terms for chain in term.views.values() for part in chain}
    code = {f"objective {term.name}": code_digest(catalogue.objectives[term.name]) for term in terms}
    code |= {f"view {name}": code_digest(catalogue.views[name]) for name in views}
    return use_code(recipe, catalogue) | code


def _parts(recipe: Recipe, catalogue: Catalogue) -> Iterator[tuple[str, Entry[Any], Part]]:
    """Yield what a model is made of: the kind and the name, the entry, and the recipe's options for it."""
    yield f"ECG encoder {recipe.encoder.name}", catalogue.ecg_encoders[recipe.encoder.name], recipe.encoder
    if recipe.text is not None:
        yield f"text encoder {recipe.text.name}", catalogue.text_encoders[recipe.text.name], recipe.text
    if recipe.heads is not None:
        yield f"heads {recipe.heads.name}", catalogue.heads[recipe.heads.name], recipe.heads


def _files(recipe: Recipe, catalogue: Catalogue) -> dict[str, dict[str, str]]:
    """Return, by component, the digests of the files from elsewhere that its first weights are read from."""
    found = {kind: entry.read_digests(part.options) for kind, entry, part in _parts(recipe, catalogue)}
    return {kind: digests for kind, digests in found.items() if digests}
