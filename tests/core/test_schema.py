"""Protocols and recipes read from TOML: nothing is ignored, everything is hashed that can move a score."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from melp_bench.errors import UnknownName, UserError
from melp_bench.plugins import discover
from melp_bench.protocol import EvaluationUse, Protocol, load_protocol, protocol_names
from melp_bench.recipe import Recipe, load_recipe, recipe_names
from melp_bench.runs.methods import find_recipe, resolve
from melp_bench.schema import first_problem

DEMO = load_protocol("demo")


@pytest.mark.parametrize("name", protocol_names())
def test_every_shipped_protocol_is_named_as_its_file(name: str) -> None:
    assert load_protocol(name).name == name


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_resolves_to_itself(name: str) -> None:
    recipe, catalogue = load_recipe(name), discover()
    assert recipe.name == name
    once = resolve(recipe, catalogue, {})
    assert resolve(once, catalogue, {}) == once
    assert set(once.encoder.options) == set(catalogue.ecg_encoders[recipe.encoder.name].options())


def test_the_hash_moves_with_what_can_move_a_score_and_with_nothing_else() -> None:
    def changed(**update: object) -> str:
        return DEMO.model_copy(update=update).hash

    assert changed(summary="other words") == changed(models=["melp"]) == DEMO.hash
    moved = [
        changed(revision=DEMO.revision + 1),
        changed(name="other"),
        changed(interval=DEMO.interval.model_copy(update={"seed": 1})),
        changed(evaluations=list(reversed(DEMO.evaluations))),
        changed(pretrain=None),
    ]
    assert DEMO.pretrain is not None
    for field, value in {"steps": 1, "seed": 9, "batch_size": 16, "labels": "super", "precision": "bf16"}.items():
        moved.append(changed(pretrain=DEMO.pretrain.model_copy(update={field: value})))
    assert len({DEMO.hash, *moved}) == len(moved) + 1


def test_a_protocol_survives_json() -> None:
    again = Protocol.model_validate_json(DEMO.model_dump_json())
    assert again == DEMO
    assert again.hash == DEMO.hash


def test_a_value_is_frozen() -> None:
    with pytest.raises(ValidationError):
        DEMO.revision = 3  # type: ignore[misc]


def test_every_alias_that_is_read_must_be_declared() -> None:
    data = DEMO.model_dump()
    data["datasets"] = {"other": data["datasets"]["synthetic"]}
    with pytest.raises(ValidationError, match=r"uses \['synthetic'\] but \[datasets\] has \['other'\]"):
        Protocol.model_validate(data)


def test_a_transfer_reads_both_tasks_of_every_pair() -> None:
    use = EvaluationUse(name="transfer", tasks=["a/x->b/y", "b/y->c/z"])
    assert use.single_tasks == ["a/x", "b/y", "c/z"]
    assert use.aliases == ["a", "b", "c"]


def test_a_metric_is_used_by_its_name_or_with_options() -> None:
    use = EvaluationUse.model_validate(
        {"name": "e", "tasks": ["a/x"], "metrics": ["auroc", {"name": "x", "options": {"k": 1}}]}
    )
    assert [(one.name, one.options) for one in use.metrics] == [("auroc", {}), ("x", {"k": 1})]
    for wrong in ("auroc", [3], [{"nam": "x"}]):
        with pytest.raises(ValidationError):
            EvaluationUse.model_validate({"name": "e", "tasks": ["a/x"], "metrics": wrong})
    with pytest.raises(ValidationError, match="at least 1"):
        EvaluationUse(name="e", tasks=[])


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "a b", "/abs"])
def test_a_protocols_name_can_name_nothing_but_a_folder(name: str) -> None:
    with pytest.raises(ValidationError):
        Protocol.model_validate(DEMO.model_dump() | {"name": name})


def test_an_unknown_name_suggests_the_nearest_and_a_file_is_asked_for() -> None:
    with pytest.raises(UnknownName, match="did you mean 'simclr'"):
        load_recipe("simcrl")
    with pytest.raises(UserError, match=r"no recipe file 'simclr\.toml'"):
        load_recipe("simclr.toml")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"encodr": {}}, "no key 'encodr'; did you mean 'encoder'?"),
        ({"encoder": {"name": "x", "option": {}}}, "no key 'encoder.option'; did you mean 'options'?"),
        ({"objectives": [{"name": "x", "wait": 1}]}, "'objectives.0.wait'; did you mean 'weight'?"),
        ({"optimiser": {"learning_rat": 1}}, "'optimiser.learning_rat'; did you mean 'learning_rate'?"),
        ({"shared_width": "wide"}, "shared_width: Input should be a valid integer"),
    ],
)
def test_the_first_problem_names_the_place_and_the_key_that_is_meant(change: dict[str, object], told: str) -> None:
    data = {"name": "a", "summary": "b", "encoder": {"name": "c"}} | change
    with pytest.raises(ValidationError) as error:
        Recipe.model_validate(data)
    assert told in first_problem(error.value, Recipe)


def test_an_encoder_alone_or_beside_a_recipe_takes_the_place_of_the_recipes_own() -> None:
    catalogue = discover()
    melp, alone, beside = (
        load_recipe("melp"),
        find_recipe("resnet1d-18", catalogue),
        find_recipe("simclr+resnet1d-18", catalogue),
    )
    assert (alone.name, alone.encoder.name) == ("resnet1d-18", "resnet1d-18")
    assert alone.objectives == melp.objectives
    assert (beside.name, beside.encoder.name) == ("simclr+resnet1d-18", "resnet1d-18")
    assert beside.objectives == load_recipe("simclr").objectives


def test_settings_reach_their_place_and_show_in_the_name(tmp_path: Path) -> None:
    settings = {"encoder.layers": "6", "rhythm.weight": "2", "optimiser.betas": "0.8", "shared_width": "64"}
    with pytest.raises(UserError, match="betas"):
        resolve(load_recipe("melp"), discover(), settings)
    del settings["optimiser.betas"]
    changed = resolve(load_recipe("melp"), discover(), settings | {"optimiser.weight_decay": "0.5", "text.causal": "true"})
    assert changed.encoder.options["layers"] == 6
    assert changed.objectives[0].weight == 2.0
    assert (changed.shared_width, changed.optimiser.weight_decay) == (64, 0.5)
    assert changed.text is not None
    assert changed.text.options["causal"] is True
    assert changed.name.startswith("melp (encoder.layers=6, rhythm.weight=2, ")
