"""Recipes of the methods that read records alone: each can be trained, and MERL's baselines differ in their lines alone."""

from __future__ import annotations

import pytest

from melp_bench.plugins import discover
from melp_bench.recipe import load_recipe, recipe_names
from melp_bench.runs.building import check_recipe
from melp_bench.runs.candidates import resolve

DEMO = (
    "simclr", "byol", "barlow-twins", "vicreg", "simsiam", "moco-v3", "dino", "ts-tcc", "clocs", "clocs-cmlc", "clocs-cmsmlc",
    "astcl",
)  # fmt: skip
PUBLISHED = tuple(
    f"merl-2024-{name}" for name in ("simclr", "byol", "barlow-twins", "moco-v3", "simsiam", "ts-tcc", "clocs", "astcl")
)


@pytest.mark.parametrize("name", DEMO)
def test_a_demo_recipe_can_be_trained_and_reads_no_reports(name: str) -> None:
    recipe = resolve(load_recipe(name), discover(), {})
    check_recipe(recipe, discover(), classes=0)
    assert recipe.text is None
    assert recipe.encoder.name == "conv-transformer"
    assert recipe.source.startswith("https://")


@pytest.mark.parametrize("name", ["merl-2024-simsiam", "merl-2024-ts-tcc", "merl-2024-astcl"])
def test_a_published_baseline_can_be_trained(name: str) -> None:
    check_recipe(resolve(load_recipe(name), discover(), {}), discover(), classes=0)


def test_merls_baselines_share_all_but_their_objective() -> None:
    assert set(PUBLISHED) <= set(recipe_names())
    first = load_recipe(PUBLISHED[0])
    for name in PUBLISHED[1:]:
        recipe = load_recipe(name)
        assert (recipe.encoder, recipe.heads, recipe.text) == (first.encoder, None, None)
        stage = recipe.stages[0]
        assert stage.model_copy(update={"objectives": first.stages[0].objectives}) == first.stages[0]
        assert len(stage.objectives) == 1
        assert recipe.source != load_recipe("merl").source
    assert first.encoder.name == "merl-resnet18-encoder"


def test_a_published_baseline_is_its_demo_recipe_at_the_papers_size() -> None:
    for name in PUBLISHED:
        demo, full = load_recipe(name.removeprefix("merl-2024-")), load_recipe(name)
        assert [part.name for part in full.terms()] == [part.name for part in demo.terms()]
