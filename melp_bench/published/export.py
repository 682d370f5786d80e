"""From one of our checkpoint folders back to a file under the published names."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from melp_bench.checkpoint import AGAIN, WEIGHTS, Manifest, check_checkpoint, read_manifest
from melp_bench.components import ECGEncoder
from melp_bench.errors import UserError
from melp_bench.home import atomic_write, make_folder
from melp_bench.published.family import Family, by_reason
from melp_bench.published.fitting import KeyLayout, publish
from melp_bench.published.folder import ASIDE, ENCODER, SPELLING, Spelling, published_form
from melp_bench.registry import Entry

TEXT_SIDE = ("text_encoder.", "heads.")


def export_checkpoint(folder: Path, entry: Entry[ECGEncoder], file: Path) -> list[str]:
    """Write the model of a checkpoint folder as safetensors under its published keys; return what the file lacks, and why.

    One trained here lacks what the published model keeps beside its encoder (a quantizer, say), one imported without its
    text tower lacks that: the original code must load such a file with `strict=False`.

    Raises:
        UserError: the folder is no checkpoint of this entry, or is damaged.
    """
    family, manifest = published_form(entry), entry_manifest(folder, entry)
    spelling = _spelling(folder / SPELLING) if (folder / SPELLING).is_file() else None
    weights, aside = _weights(folder, manifest, entry, spelling), _read(folder / ASIDE)
    layout = KeyLayout(family.prefixes[0]) if spelling is None else KeyLayout(spelling.prefix, spelling.old_weight_norm)
    encoder = {k.removeprefix(ENCODER): t for k, t in weights.items() if k.startswith(ENCODER)}
    written = publish(encoder, aside, family, layout)
    keys = _text_keys(family, manifest, spelling)
    if keys is not None:
        prefix = spelling.text_prefix if spelling is not None else None
        beside = KeyLayout(keys.prefixes[0] if prefix is None else prefix, layout.old_weight_norm)
        text = {k: t for k, t in weights.items() if k.startswith(TEXT_SIDE) and keys.fresh_because(k) is None}
        written |= publish(text, aside, keys, beside)
    make_folder(file.parent)
    atomic_write(file, save({k: t.contiguous().clone() for k, t in written.items()}, {"format": "pt"}))
    if spelling is None:
        return [f"{template}: {reason}" for template, reason in family.unused]
    return by_reason({key: reason for key, reason in spelling.unused.items() if key not in written})


def entry_manifest(folder: Path, entry: Entry[ECGEncoder]) -> Manifest:
    """Return what a checkpoint folder says of itself.

    Raises:
        UserError: it is no checkpoint of `entry`.
    """
    manifest = read_manifest(folder)
    if manifest.recipe.encoder.name != entry.name:
        raise UserError(f"{str(folder)!r} holds {manifest.recipe.encoder.name!r}, not {entry.name!r}; export it as the former")
    return manifest


def _text_keys(family: Family, manifest: Manifest, spelling: Spelling | None) -> Family | None:
    """Return how the text side is published; None where the checkpoint has none, or one that was never published."""
    tower, text = family.text, manifest.recipe.text
    if tower is None or text is None or text.name != tower.component:
        return None
    return tower.keys if spelling is None or spelling.text_prefix is not None else None


def _weights(folder: Path, manifest: Manifest, entry: Entry[ECGEncoder], spelling: Spelling | None) -> dict[str, Tensor]:
    """Return the whole model's weights in the published dtypes, after checking that they are the manifest's own."""
    check_checkpoint(folder)
    weights = _read(folder / WEIGHTS)
    own = entry.build(**entry.resolve(manifest.recipe.encoder.options)).state_dict()
    found = {k.removeprefix(ENCODER): t.shape for k, t in weights.items() if k.startswith(ENCODER)}
    if found != {key: tensor.shape for key, tensor in own.items()}:
        raise UserError(f"{str(folder)!r} does not fit the encoder of its recipe; was the plugin changed?")
    dtypes = spelling.dtypes if spelling is not None else {}
    return {k: t.to(getattr(torch, dtypes[k])) if k in dtypes else t for k, t in weights.items()}


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file; none where there is no file."""
    try:
        return load_file(path) if path.is_file() else {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{str(path)!r} is damaged; {AGAIN}") from error


def _spelling(path: Path) -> Spelling:
    try:
        return Spelling.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(f"{str(path)!r} is damaged: {error.errors()[0]['msg']}; import again") from error
