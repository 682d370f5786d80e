"""Every demo recipe on both shared backbones, or why not in a line; every full-size recipe of a method with reports built."""

from __future__ import annotations

import pytest
from full_size import build_on_meta, is_full_size, resolved

from melp_bench.errors import UserError
from melp_bench.plugins import discover
from melp_bench.recipe import Part, load_recipe, recipe_names
from melp_bench.runs.building import check_recipe
from melp_bench.runs.resolution import resolve

CATALOGUE = discover()
BACKBONES = ("conv-transformer", "resnet1d-18")
FULL_SIZE = [name for name in recipe_names() if is_full_size(load_recipe(name), CATALOGUE)]
DEMO = [name for name in recipe_names() if name not in FULL_SIZE]
NEEDS_MASKING = "needs an encoder with masked encoding"
WITH_REPORTS = ("melp-2025", "melp-2025-readme", "melp-2025-maintainers", "merl-2024", "d-beta")


def refusal(name: str, backbone: str) -> str | None:
    """Return why a recipe cannot be trained on another encoder, or None."""
    recipe = load_recipe(name).model_copy(update={"encoder": Part(name=backbone)})
    try:
        check_recipe(resolve(recipe, CATALOGUE, {}), CATALOGUE, classes=5)
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("name", DEMO)
def test_a_demo_recipe_trains_a_shared_backbone_or_says_in_a_line_why_not(name: str, backbone: str) -> None:
    told = refusal(name, backbone)
    if told is not None:
        assert "cannot train this encoder: " in told
        assert "\n" not in told


def test_of_the_methods_with_reports_only_the_masked_one_leaves_the_resnet_out() -> None:
    names = ("melp", "melp-one-stage", "merl", "clip", "clip-sentences", "siglip", "coca", "gloria", "fg-clep", "d-beta-demo")
    assert [name for name in names if refusal(name, "conv-transformer")] == []
    assert [name for name in names if refusal(name, "resnet1d-18")] == ["d-beta-demo"]
    assert NEEDS_MASKING in str(refusal("d-beta-demo", "resnet1d-18"))


def test_full_size_recipes_are_told_from_the_demos() -> None:
    assert set(WITH_REPORTS) <= set(FULL_SIZE)
    assert {"melp", "merl", "clip", "d-beta-demo", "melp-one-stage", "simclr", "random-init"} <= set(DEMO)


@pytest.mark.parametrize("name", WITH_REPORTS)
def test_a_full_size_recipe_is_built_with_the_published_shapes(name: str) -> None:
    recipe = resolved(name, CATALOGUE)
    model, steps = build_on_meta(recipe, CATALOGUE)
    assert model.text_encoder is not None
    assert model.text_encoder.width == 768
    assert model.shared == (768 if name == "d-beta" else 256)
    assert len(steps) == len(recipe.stages)
    text = sum(parameter.numel() for parameter in model.text_encoder.parameters())
    assert 108e6 < text < 112e6
    encoder = sum(parameter.numel() for parameter in model.encoder.parameters())
    want = {"melp": 65.1e6, "merl-resnet18-encoder": 3.85e6, "d-beta": 63.2e6}[recipe.encoder.name]
    assert encoder == pytest.approx(want, rel=0.01)


def test_melps_three_full_sizes_differ_where_their_sources_do() -> None:
    paper, readme, maintainers = (resolved(name, CATALOGUE) for name in WITH_REPORTS[:3])
    assert [r.encoder.options["contrast_queries"] for r in (paper, readme, maintainers)] == [10, 12, 12]
    assert [[stage.name for stage in r.stages] for r in (paper, readme, maintainers)] == [
        ["records", "reports", "alignment"],
        ["alignment"],
        ["records", "alignment"],
    ]
    last = [r.stages[-1] for r in (paper, readme, maintainers)]
    assert [stage.optimiser.learning_rate for stage in last] == [2e-4, 2e-4, 1e-4]
    assert {stage.optimiser.weight_decay for stage in last} == {0.2}
    assert [stage.optimiser.warmup_fraction for stage in last] == [0.02, 0.0, 0.02]
    for stage in last:
        assert {term.term: term.weight for term in stage.objectives} == {"rhythm": 1.0, "beat": 0.2, "token": 2.0}
        assert len(stage.freeze) == 6
    assert [term.options for term in last[0].objectives] == [term.options for term in last[2].objectives]
