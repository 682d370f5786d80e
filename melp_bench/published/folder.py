"""From a published file to one of our checkpoint folders.

Beside the checkpoint lie `published.json` (how the file spelt its keys, and what became of every one) and, if the model had
no place for some tensors, `aside.safetensors`: with them an export holds every tensor that the file held of what was imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import torch
from safetensors.torch import save
from torch import Tensor, nn

from melp_bench.canonical import digest
from melp_bench.checkpoint import is_checkpoint, read_manifest, save_checkpoint
from melp_bench.code_digest import code_digest
from melp_bench.components import ECGEncoder, Heads, TextEncoder, TextSource
from melp_bench.errors import UserError
from melp_bench.home import atomic_write, make_folder
from melp_bench.model import Model, widths_of
from melp_bench.published.family import Family, TextTower
from melp_bench.published.fitting import Fitted, fit
from melp_bench.published.parts import FamilyPart, part_of
from melp_bench.published.tensor_files import Published, chosen_part, file_sha256, locate, read_published
from melp_bench.recipe import Part, Recipe
from melp_bench.registry import Entry
from melp_bench.schema import Frozen

DType = Literal["float16", "bfloat16", "float32", "float64", "int32", "int64"]
SPELLING, ASIDE = "published.json", "aside.safetensors"
ENCODER = "encoder."  # under which a whole model keeps its ECG encoder
HEAD_SEED = 0
"""Of what heads draw before published weights are put in their place."""


class Spelling(Frozen):
    """How a published file spelt what we imported."""

    family: str
    prefix: str
    text_prefix: str | None = None  # of the text tower's keys; None where it was left out
    old_weight_norm: bool
    dtypes: dict[str, DType]  # key of our whole model -> the file's dtype, where the module has another
    unused: dict[str, str]  # published key -> why it is not used


@dataclass(frozen=True)
class Text:
    """The text encoder and the heads to put a published tower's weights in; `model` gives configuration and tokenizer."""

    entry: Entry[TextEncoder]
    model: str
    heads: Entry[Heads]


@dataclass(frozen=True)
class Imported:
    """What became of a published file.

    Attributes:
        part: what of the file was read.
        text: the tower as it was fitted; None where it was not asked for.
        unused: published key -> why it is not used.
        aside: published key -> tensor that our model has no place for.
    """

    part: FamilyPart
    encoder: Fitted[ECGEncoder]
    text: Fitted[TextSide] | None
    unused: dict[str, str]
    aside: dict[str, Tensor]


class TextSide(nn.Module):
    """What of a whole model reads reports, under the names that the model has for it."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.text_encoder, self.heads = model.text_encoder, model.heads


def import_checkpoint(where: str, entry: Entry[ECGEncoder], out: Path, text: Text | None = None) -> Imported:
    """Write the published file `where` (a path, or `hf:owner/name[/file]`) as a checkpoint folder `out`.

    It holds the entry's encoder and, where `text` says how to build it, the text tower of the same file.

    Raises:
        UserError: the entry has no published form, the file is unreadable or not of its family, or `out` holds another
            checkpoint; nothing is written then.
    """
    family, source = published_form(entry), read_published(where)
    part = part_of(source, family)
    _check_free(out, source)
    encoder = fit(part.tensors, family, entry.build, where)
    if text is None:
        side, model = None, Model(encoder.module)
        unused, aside = encoder.unused, encoder.aside
    else:
        tower = _tower(family)
        model = _whole(encoder.module, tower, text)
        inner = {key: key.removeprefix(encoder.layout.prefix) for key in encoder.unused}
        repeated = {key: why for key, why in encoder.unused.items() if family.tied_to(inner[key]) is not None}
        rest = {key: part.tensors[key] for key in encoder.unused if key not in repeated}
        side = fit(rest, tower.keys, lambda: TextSide(model), where)
        unused, aside = repeated | side.unused, side.aside
    made = Imported(part, encoder, side, unused, aside)
    make_folder(out)
    atomic_write(out / SPELLING, _spelling(family, made).model_dump_json(indent=1) + "\n")
    if aside:
        atomic_write(out / ASIDE, save({key: tensor.contiguous().clone() for key, tensor in aside.items()}))
    assets = model.text_encoder.assets() if model.text_encoder is not None else {}
    save_checkpoint(out, model, _manifest(entry, made, source, text), assets)
    return made


def import_path(where: str, entry: Entry[ECGEncoder], folder: Path, text: Text | None = None) -> Path:
    """Return where under `folder` a published file is imported to: named by encoder, file, and the code that understands it."""
    published_form(entry)
    chosen = [chosen_part(where)] if chosen_part(where) else []
    code = digest([code_digest(entry), code_digest(text.entry) if text else "", *chosen])
    return folder / f"{entry.name}{'+text' if text else ''}-{file_sha256(locate(where))[:12]}-{code[:8]}"


def published_form(entry: Entry[ECGEncoder]) -> Family:
    """Return how the entry's published checkpoints are spelt.

    Raises:
        UserError: there are none.
    """
    if entry.published is None:
        raise UserError(
            f"{entry.name!r} has no published checkpoints that we know; `melp-bench show` says of each where they are"
        )
    return entry.published


def _check_free(out: Path, source: Published) -> None:
    """Check that `out` holds no checkpoint of other origin."""
    if not is_checkpoint(out):
        return
    here = read_manifest(out).source
    if (here.get("sha256"), here.get("part", "")) != (source.sha256, chosen_part(source.source)):
        raise UserError(f"{str(out)!r} already holds another checkpoint; import to another folder, or delete it")


def _tower(family: Family) -> TextTower:
    if family.text is None:
        raise UserError(f"published {family.name!r} files hold no text tower that we know; import without one")
    return family.text


def _whole(encoder: ECGEncoder, tower: TextTower, text: Text) -> Model:
    built = text.entry.build(TextSource(), **text.entry.resolve({**tower.options, "model": text.model}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(HEAD_SEED)
        heads = text.heads.build(widths_of(encoder, built), **text.heads.resolve(tower.head_options))
    return Model(encoder, built, heads)


def _spelling(family: Family, made: Imported) -> Spelling:
    encoder, side = made.encoder, made.text
    dtypes = {ENCODER + key: name for key, name in _other_dtypes(encoder).items()}
    fields: dict[str, Any] = {
        "family": family.name,
        "prefix": encoder.layout.prefix,
        "text_prefix": side.layout.prefix if side else None,
        "old_weight_norm": encoder.layout.old_weight_norm,
        "dtypes": dtypes | (_other_dtypes(side) if side else {}),
        "unused": made.unused,
    }
    return Spelling.model_validate(fields)


def _manifest(entry: Entry[ECGEncoder], made: Imported, source: Published, text: Text | None) -> dict[str, Any]:
    part = heads = None
    if text is not None:
        tower = _tower(published_form(entry))
        options: Mapping[str, Any] = {**tower.options, "model": text.model}
        part = Part(name=text.entry.name, options=text.entry.resolve(options))
        heads = Part(name=text.heads.name, options=text.heads.resolve(tower.head_options))
    file = PurePosixPath(source.source).name
    recipe = Recipe(
        name=f"{entry.name}@{file}",
        summary=f"published weights: {entry.summary}",
        source=entry.source,
        encoder=Part(name=entry.name, options=entry.resolve(made.encoder.options)),
        text=part,
        heads=heads,
    )
    origin = {"file": source.source, "sha256": source.sha256, "container": made.part.name, "license": entry.license}
    if chosen := chosen_part(source.source):
        origin["part"] = chosen
    return {"recipe": recipe, "corpora": list(made.encoder.module.corpora), "source": origin}


def _other_dtypes(fitted: Fitted[Any]) -> dict[str, str]:
    own = fitted.module.state_dict()
    return {k: str(t.dtype).removeprefix("torch.") for k, t in fitted.weights.items() if t.dtype != own[k].dtype}
