"""Where the parts of a model start from in a stage: drawn anew, from an earlier stage, a checkpoint, or a published file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from melp_bench.canonical import digest
from melp_bench.checkpoint import Manifest, is_checkpoint, load_tensors, read_manifest
from melp_bench.errors import UserError
from melp_bench.model import PARTS, Model
from melp_bench.plugins import Catalogue
from melp_bench.pretrain.texts import read_reports
from melp_bench.published.fitting import fit
from melp_bench.published.folder import published_form
from melp_bench.published.parts import part_of
from melp_bench.published.tensor_files import chosen_part, file_sha256, locate, read_published
from melp_bench.recipe import PREVIOUS, RANDOM, Recipe
from melp_bench.runs.components import build_component
from melp_bench.runs.references import published_reference


def digests_of_starts(recipe: Recipe, catalogue: Catalogue) -> dict[str, Any]:
    """Return what the weights depend on besides recipe and corpus, by name: the files that stages start from and read.

    Raises:
        UserError: one of them is not there.
    """
    starts, reports = {}, {}
    for stage in recipe.stages:
        for part, source in elsewhere(stage.start, recipe).items():
            file = published_reference(source, catalogue)
            found = _file_digest(file.file) if file else _checkpoint(source, stage.name, part).weights_sha256
            starts[f"{stage.name}.{part}"] = found
        if stage.reports is not None:
            reports[stage.name] = digest(read_reports(Path(stage.reports)))
    return ({"starts": starts} if starts else {}) | ({"reports": reports} if reports else {})


def _file_digest(where: str) -> str:
    """Return what tells the weights of a published file: its digest, with the part that was chosen of it."""
    part = chosen_part(where)
    return file_sha256(locate(where)) + (f"#{part}" if part else "")


def elsewhere(start: Mapping[str, str], recipe: Recipe) -> dict[str, str]:
    """Return the parts that start from a checkpoint or a published file, and which."""
    here = {RANDOM, PREVIOUS, *(stage.name for stage in recipe.stages)}
    return {part: source for part, source in start.items() if source not in here}


def corpora_of_starts(recipe: Recipe, catalogue: Catalogue) -> list[str]:
    """Return the datasets that the weights have seen which stages start from, as their checkpoints or authors say."""
    found: list[str] = []
    for stage in recipe.stages:
        for part, source in elsewhere(stage.start, recipe).items():
            file = published_reference(source, catalogue)
            known = build_component(file.encoder, recipe.encoder.options).corpora if file else None
            found += _checkpoint(source, stage.name, part).corpora if known is None else known
    return list(dict.fromkeys(found))


def load_start(model: Model, part: str, source: str, recipe: Recipe, catalogue: Catalogue) -> None:
    """Put the weights of a checkpoint folder, or of ENCODER@FILE, into a part of the model; strictly.

    Raises:
        UserError: the file is damaged, of another component, or of other options than the recipe's.
    """
    if (reference := published_reference(source, catalogue)) is None:
        manifest = _checkpoint(source, "", part)
        theirs, ours = getattr(manifest.recipe, part), getattr(recipe, part)
        if theirs is None or theirs.name != ours.name:
            raise UserError(f"{source!r} holds the {part} {theirs.name if theirs else None!r}; the recipe's is {ours.name!r}")
        weights = load_tensors(Path(source), manifest)
        prefix = f"{PARTS[part]}."
        put(model, part, {k.removeprefix(prefix): t for k, t in weights.items() if k.startswith(prefix)}, source)
        return
    entry, where = reference.encoder, reference.file
    if part != "encoder" or entry.name != recipe.encoder.name:
        raise UserError(f"{source!r} is of the encoder {entry.name!r}; the recipe's {part} is {getattr(recipe, part).name!r}")
    family = published_form(entry)
    fitted = fit(part_of(read_published(where), family).tensors, family, entry.build, where)
    wanted = {name: value for name, value in fitted.options.items() if recipe.encoder.options.get(name) != value}
    if wanted:
        shown = ", ".join(f"{name}={value!r}" for name, value in wanted.items())
        raise UserError(f"{source!r} was built with {shown}; set the same options of [encoder] in the recipe")
    put(model, part, fitted.module.state_dict(), source)


def put(model: Model, part: str, weights: Mapping[str, Tensor], source: str) -> None:
    """Load `weights` into a part of the model, all of them or none.

    Raises:
        UserError: they are of another module.
    """
    module: nn.Module | None = getattr(model, PARTS[part])
    if module is None:
        raise UserError(f"start names the part {part!r}, which the recipe has not")
    own = module.state_dict()
    odd = sorted(set(weights) ^ set(own)) or [name for name in own if own[name].shape != weights[name].shape]
    if odd:
        raise UserError(f"{source!r} does not fit the recipe's {part}, first at {odd[0]!r}; give both the same options")
    module.load_state_dict(dict(weights), strict=True)


def _checkpoint(source: str, stage: str, part: str) -> Manifest:
    folder = Path(source).expanduser()
    if not is_checkpoint(folder):
        raise UserError(f"stage {stage!r} starts its {part} from {source!r}, which is no checkpoint folder")
    return read_manifest(folder)
