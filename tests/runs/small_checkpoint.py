"""A small checkpoint with random weights and a store of generated records, for tests of what is done with a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from melp_bench.checkpoint import save_checkpoint
from melp_bench.components import TextSource
from melp_bench.plugins import discover
from melp_bench.recipe import Part, Recipe
from melp_bench.runs.building import build_model
from melp_bench.runs.resolution import resolve
from melp_bench.store import Store, prepare

CATALOGUE = discover()
SMALL = {"layers": 1, "width": 32, "pool_width": 16, "queries": 3}


def write_checkpoint(
    folder: Path, *, encoder: str = "conv-transformer", seed: int = 0, options: Mapping[str, Any] = SMALL
) -> Path:
    """Write a checkpoint of an untrained encoder, and return its folder."""
    given = Recipe(name="small", summary="for tests", encoder=Part(name=encoder, options=dict(options)))
    recipe = resolve(given, CATALOGUE, {})
    model = build_model(recipe, CATALOGUE, TextSource(), seed)
    save_checkpoint(folder, model, {"recipe": recipe}, {})
    return folder


def generated_store(root: Path | None, *, records: int = 130, seed: int = 0) -> Store:
    """Return a store of generated records, in its usual place or in `root`."""
    entry = CATALOGUE.datasets["synthetic"]
    options = entry.resolve({"num_records": records, "seed": seed})
    return prepare(entry.build(**options), name="synthetic", source=None, root=root, options=options)
