"""A checkpoint: a folder with `model.safetensors`, `checkpoint.json` and the text encoder's assets. Never unpickled."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from melp_bench.errors import UserError
from melp_bench.home import atomic_write, make_folder
from melp_bench.recipe import Recipe
from melp_bench.schema import Frozen, first_problem

WEIGHTS, MANIFEST = "model.safetensors", "checkpoint.json"
AGAIN = "delete the folder and pretrain or import again"


class Manifest(Frozen):
    """What a checkpoint says of itself: enough to build the model again, and where it comes from."""

    recipe: Recipe
    weights_sha256: str
    corpora: list[str] = Field(default_factory=list)  # names of the datasets the weights have seen
    assets: list[str] = Field(default_factory=list)  # files of the text encoder beside the weights
    pretraining: dict[str, Any] = Field(default_factory=dict)  # budget, data fingerprint, seed, best step, curves
    source: dict[str, str] = Field(default_factory=dict)  # of an imported file: where it came from and its SHA-256


def save_checkpoint(folder: Path, module: nn.Module, manifest: dict[str, Any], assets: dict[str, str]) -> Manifest:
    """Write a checkpoint; the manifest goes last, so that a folder with a manifest is whole."""
    make_folder(folder)
    content = save(owned_tensors(module))
    atomic_write(folder / WEIGHTS, content)
    for name, text in assets.items():
        atomic_write(folder / name, text)
    written = Manifest(weights_sha256=hashlib.sha256(content).hexdigest(), assets=sorted(assets), **manifest)
    atomic_write(folder / MANIFEST, written.model_dump_json(indent=1) + "\n")
    return written


def owned_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the module's state as copies on the CPU that share no memory, as safetensors wants them."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in module.state_dict().items()}


def is_checkpoint(folder: Path) -> bool:
    """Return whether `folder` holds a whole checkpoint."""
    return (folder / MANIFEST).is_file()


def read_manifest(folder: Path) -> Manifest:
    """Return what the checkpoint says of itself.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(f"{str(folder)!r} holds no checkpoint: no {MANIFEST} in it")
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(f"{str(path)!r} is damaged: {first_problem(error)}; {AGAIN}") from error
    if any(Path(name).name != name for name in manifest.assets):
        raise UserError(f"{str(path)!r} names assets outside its folder: {manifest.assets}; it is not one of ours")
    return manifest


def read_assets(folder: Path, manifest: Manifest) -> dict[str, str]:
    """Return the text encoder's assets: file name to text."""
    missing = [name for name in manifest.assets if not (folder / name).is_file()]
    if missing:
        raise UserError(f"checkpoint {str(folder)!r} lacks {missing}; {AGAIN}")
    try:
        return {name: (folder / name).read_text(encoding="utf-8") for name in manifest.assets}
    except UnicodeDecodeError as error:
        raise UserError(
            f"checkpoint {str(folder)!r}: one of {manifest.assets} is not text ({error.reason}); {AGAIN}"
        ) from error


def check_checkpoint(folder: Path) -> None:
    """Check that a checkpoint is whole, without building its model.

    Raises:
        UserError: its manifest, an asset or its weights are missing or damaged.
    """
    manifest = read_manifest(folder)
    read_assets(folder, manifest)
    _check_digest(folder, manifest)


def load_weights(folder: Path, manifest: Manifest, module: nn.Module) -> None:
    """Load the weights strictly, after checking that they are the ones the manifest was written with.

    Raises:
        UserError: the file is missing, damaged or of another model; nothing is loaded then.
    """
    weights, path = load_tensors(folder, manifest), folder / WEIGHTS
    wanted = module.state_dict()
    odd = sorted(set(weights) ^ set(wanted)) or [n for n in wanted if wanted[n].shape != weights[n].shape]
    if odd:
        raise UserError(f"{str(path)!r} does not fit the model of its recipe, first at {odd[0]!r}; was the plugin changed?")
    module.load_state_dict(weights, strict=True)


def load_tensors(folder: Path, manifest: Manifest) -> dict[str, Tensor]:
    """Return the weights of a checkpoint by name, after checking that they are the ones the manifest was written with.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = _check_digest(folder, manifest)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{str(path)!r} is not a safetensors file: {error}; {AGAIN}") from error


def _check_digest(folder: Path, manifest: Manifest) -> Path:
    """Return the file of the weights, which is the one that the manifest was written with."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise UserError(f"checkpoint {str(folder)!r} has no {WEIGHTS}; {AGAIN}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != manifest.weights_sha256:
        raise UserError(f"{str(path)!r} is damaged: its SHA-256 is not the one in {MANIFEST}; {AGAIN}")
    return path
