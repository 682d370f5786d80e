"""What a model's name stands for, read without opening, fetching or importing anything.

A name is a recipe (`melp`, `mine.toml`), a recipe with another encoder (`simclr+my-encoder`), a checkpoint folder, or an
encoder with a published file (`st-mem-base@weights.pth`, `ecg-fm@hf:owner/name/file`). An encoder named alone that comes with
weights of its own is taken as it is. `random-init+*` is a recipe with every encoder that is small enough for a demo.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from melp_bench.checkpoint import is_checkpoint
from melp_bench.components import ECGEncoder
from melp_bench.errors import UnknownName, UserError
from melp_bench.plugins import Catalogue
from melp_bench.recipe import recipe_names
from melp_bench.registry import Entry, nearest
from melp_bench.runs.components import num_parameters_of

EVERY = "*"
DEMO_PARAMETERS = 2_000_000
"""What an encoder has at most that `RECIPE+*` takes."""


@dataclass(frozen=True)
class RecipeReference:
    """A recipe by name or file, with another encoder in the place of its own where one is named."""

    recipe: str  # "": the encoder as it is built, with weights of its own
    encoder: str = ""
    alone: bool = False  # only the encoder was named, and the recipe is the protocol's for such


@dataclass(frozen=True)
class CheckpointReference:
    """A checkpoint folder."""

    folder: Path


@dataclass(frozen=True)
class PublishedReference:
    """A published file of an encoder's authors: a path, or `hf:owner/name[/file]`."""

    encoder: Entry[ECGEncoder]
    file: str


Reference = RecipeReference | CheckpointReference | PublishedReference


def spread(text: str, catalogue: Catalogue) -> list[str]:
    """Return the names that RECIPE+* stands for, one for each ECG encoder of a demo's size; any other name as it is."""
    recipe, _, encoder = text.partition("+")
    if encoder != EVERY:
        return [text]
    sizes = {e.name: num_parameters_of(e, {}) for e in catalogue.ecg_encoders if not has_own_weights(e)}
    return [f"{recipe}+{name}" for name, size in sizes.items() if size is not None and size <= DEMO_PARAMETERS]


def parse(text: str, catalogue: Catalogue, *, bare_recipe: str | None = None) -> Reference:
    """Return what `text` stands for; an encoder named alone takes `bare_recipe`, where the protocol names one.

    Raises:
        UnknownName: it stands for nothing.
        UserError: it is a folder without a checkpoint, or an encoder alone and nobody says how to pretrain it.
    """
    if is_checkpoint(Path(text)):
        return CheckpointReference(Path(text))
    if (published := published_reference(text, catalogue)) is not None:
        return published
    recipe, plus, encoder = text.partition("+")
    if plus and encoder:
        return RecipeReference(recipe, catalogue.ecg_encoders[encoder].name)
    if recipe.endswith(".toml") or recipe in recipe_names():
        return RecipeReference(recipe)
    if text in catalogue.ecg_encoders:
        own = has_own_weights(catalogue.ecg_encoders[text])
        return RecipeReference("" if own else _recipe_of(text, bare_recipe), text, alone=True)
    if Path(text).is_dir():
        raise UserError(f"{text!r} is a folder without a checkpoint in it; `melp-bench pretrain` makes one")
    known = [*recipe_names(), *(entry.name for entry in catalogue.ecg_encoders)]
    raise UnknownName(
        f"no recipe, ECG encoder or checkpoint folder named {text!r}{nearest(text, known)} `melp-bench list` shows all"
    )


def published_reference(text: str, catalogue: Catalogue) -> PublishedReference | None:
    """Return what ENCODER@FILE stands for; None where `text` is of another form.

    Raises:
        UnknownName: no encoder has the name before the @.
    """
    encoder, at, file = text.partition("@")
    if not at or "/" in encoder or encoder.endswith(".toml"):
        return None
    return PublishedReference(catalogue.ecg_encoders[encoder], file)


def has_own_weights(entry: Entry[ECGEncoder]) -> bool:
    """Return whether an encoder is built from files with weights: by default, or by an option that must name them."""
    try:
        return bool(entry.read_digests({}))
    except UserError:  # an option must be given
        return entry.reads is not None


def _recipe_of(encoder: str, bare_recipe: str | None) -> str:
    """Return the recipe for an encoder that was named alone."""
    if bare_recipe is None:
        choice = ", ".join(f"{name}+{encoder}" for name in recipe_names())
        raise UserError(f"{encoder!r} is an encoder, and the protocol names no recipe to pretrain it by; give one of: {choice}")
    return bare_recipe
