"""A recipe: a method as data. Encoder, text encoder, weighted objectives, optimiser, schedule."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from melp_bench.schema import Frozen, load_toml, shipped


class Part(Frozen):
    """A component by name, with options."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class WeightedObjective(Part):
    """One term of the loss."""

    weight: float = 1.0


class Optimiser(Frozen):
    """AdamW with warm-up and cosine decay; biases, norms and other vectors are not decayed."""

    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    warmup_fraction: float = 0.1  # of all steps
    final_fraction: float = 0.01  # of the learning rate, reached at the last step


class Recipe(Frozen):
    """A method. Without objectives nothing is trained: a randomly initialised encoder."""

    name: str
    summary: str
    source: str = ""
    shared_width: int = 128  # of the space that records and reports share
    segment_queries: int = 0  # learned queries that give beats to an encoder without beats of its own
    encoder: Part
    text: Part | None = None
    objectives: list[WeightedObjective] = Field(default_factory=list)
    optimiser: Optimiser = Optimiser()


def load_recipe(name: str) -> Recipe:
    """Return a shipped recipe by name, or the one in a .toml file."""
    return load_toml(Recipe, name, "melp_bench.recipes", "recipe")


def recipe_names() -> list[str]:
    """Return the names of the shipped recipes."""
    return shipped("melp_bench.recipes")
