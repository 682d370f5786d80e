"""What differs between two recipes: all of it, nothing else, and what is the same said once."""

from __future__ import annotations

from typing import Any

import pytest

from melp_bench.plugins import discover
from melp_bench.recipe import Recipe, load_recipe
from melp_bench.runs.candidates import recipe_of
from melp_bench.runs.differences import NOTHING, Comparison, SettingDifference, compare
from melp_bench.runs.references import RecipeReference
from melp_bench.runs.resolution import recipe_content, resolve

CATALOGUE = discover()


def resolved(name: str, **settings: str) -> Recipe:
    return resolve(load_recipe(name), CATALOGUE, {key.replace("_", ".", 1): value for key, value in settings.items()})


def changed(recipe: Recipe, *path: str | int, value: Any) -> Recipe:
    """Return the recipe with one value changed."""
    data = recipe.model_dump()
    place: Any = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return Recipe.model_validate(data)


@pytest.mark.parametrize("name", ["melp", "merl", "random-init", "d-beta-demo"])
def test_a_recipe_differs_from_itself_in_nothing_whatever_it_is_called(name: str) -> None:
    recipe = resolved(name)
    renamed = recipe.model_copy(update={"name": "other", "summary": "other", "source": "other"})
    found = compare(recipe, renamed)
    assert found.differences == ()
    assert any(recipe.encoder.name in same for same in found.same)


def test_an_option_that_differs_is_one_line_and_the_others_are_counted() -> None:
    found = compare(resolved("simclr"), resolved("simclr", encoder_layers="6", simclr_temperature="0.5"))
    assert found.differences == (
        SettingDifference("encoder.layers", "2", "6"),
        SettingDifference("pretrain: simclr.temperature", "0.1", "0.5"),
    )
    options = len(CATALOGUE.ecg_encoders["conv-transformer"].options())
    rest = ("the rest of pretrain: simclr", "optimiser of pretrain")
    assert found.same == (f"{options - 1} other options of encoder conv-transformer", *rest)


MELP = resolved("melp")
PLACES: list[tuple[tuple[str | int, ...], Any, str]] = [
    (("encoder", "options", "width"), 256, "encoder.width"),
    (("text", "options", "causal"), False, "text encoder.causal"),
    (("heads", "options", "queries"), 3, "heads.queries"),
    (("stages", 2, "objectives", 1, "weight"), 0.7, "alignment: beat.weight"),
    (("stages", 2, "objectives", 1, "options", "temperature1"), 1.0, "alignment: beat.temperature1"),
    (("stages", 0, "optimiser", "learning_rate"), 0.1, "records: learning_rate"),
    (("stages", 0, "objectives", 0, "views"), {"half1": [{"name": "crop-resize"}]}, "records: cmsc.views"),
    (("stages", 2, "freeze"), ["encoder"], "alignment: freeze"),
    (("stages", 2, "start"), {"text": "random"}, "alignment: start"),
    (("stages", 1, "reports"), "reports.txt", "reports: reports"),
]


@pytest.mark.parametrize(("path", "value", "told"), PLACES)
def test_every_place_that_weights_depend_on_is_told_from_either_side(
    path: tuple[str | int, ...], value: Any, told: str
) -> None:
    other = changed(MELP, *path, value=value)
    assert recipe_content(other) != recipe_content(MELP)
    (there,), (back,) = compare(MELP, other).differences, compare(other, MELP).differences
    assert (there.place, back.place) == (told, told)
    assert (there.one, there.two) == (back.two, back.one)
    assert there.one != there.two


def test_what_only_one_has_stands_against_nothing() -> None:
    found = compare(MELP, resolved("melp-without-beat"))
    assert found.differences == (
        SettingDifference(
            "alignment: beat",
            "0.2 x beat temperature1=4 temperature2=5 temperature3=10 aggregation=sum global_batch=False",
            NOTHING,
        ),
    )
    assert found.same[:5] == ("encoder conv-transformer", "text encoder bert", "heads melp", "stage records", "stage reports")


def test_another_encoder_is_one_line_with_all_of_its_options() -> None:
    beside = resolve(recipe_of(RecipeReference("simclr", "resnet1d-18")), CATALOGUE, {})
    found: Comparison = compare(resolved("simclr"), beside)
    (only,) = found.differences
    assert only.two == "resnet1d-18 width=16 rate_hz=100 seconds=10"
    assert only.one.startswith("conv-transformer layers=2 width=128")
    assert found.same == ("stage pretrain",)


def test_stages_are_told_by_their_names_and_the_only_ones_belong_together() -> None:
    one, two = resolved("melp-one-stage"), resolved("simclr")
    places = [difference.place for difference in compare(one, two).differences]
    assert places[:2] == ["text encoder", "heads"]
    assert places[2:] == [f"alignment / pretrain: {term}" for term in ("rhythm", "beat", "token", "simclr", "learning_rate")]
    three = [difference.place for difference in compare(MELP, resolved("clip")).differences]
    assert three == [
        *("heads.queries", "stage records", "reports: masked-words"),
        *("alignment: beat", "alignment: token", "alignment: share"),
    ]


def test_a_method_without_training_has_no_stage() -> None:
    found = compare(resolved("random-init"), resolved("simclr"))
    (only,) = found.differences
    assert (only.place, only.one) == ("stage pretrain", NOTHING)
    assert only.two.startswith("100% of the steps; 1 x simclr ")
