"""Protocols and recipes read from TOML: nothing is ignored, everything is hashed that can move a score."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from melp_bench.errors import UnknownName, UserError
from melp_bench.plugins import discover
from melp_bench.protocol import EvaluationUse, Protocol, load_protocol, protocol_names
from melp_bench.recipe import Recipe, load_recipe, recipe_names, stage_steps
from melp_bench.runs.building import check_recipe
from melp_bench.runs.candidates import recipe_of
from melp_bench.runs.references import RecipeReference
from melp_bench.runs.resolution import resolve
from melp_bench.schema import first_problem

DEMO = load_protocol("demo")
STAGE: dict[str, object] = {"name": "s", "objectives": [{"name": "x"}]}


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
        ({"objectives": [{"name": "x", "wait": 1}]}, "'stages.0.objectives.0.wait'; did you mean 'weight'?"),
        (
            {"objectives": [{"name": "x"}], "optimiser": {"learning_rat": 1}},
            "'stages.0.optimiser.learning_rat'; did you mean 'learning_rate'?",
        ),
        ({"objectives": [{"name": "x", "weight": -1}]}, "weight: Input should be greater than or equal to 0, given -1"),
        ({"objectives": [{"name": "x"}, {"name": "x"}]}, "stage 'pretrain' has two terms named 'x'; name them apart"),
        ({"stages": [STAGE | {"share": 0.5}]}, "the stages' shares are 0.5 = 0.5 of the budget; wanted 1"),
        ({"stages": [STAGE | {"share": 0.5}, STAGE | {"share": 0.5}]}, "two stages are named 's'; name them apart"),
        ({"stages": [STAGE], "optimiser": {}}, "a recipe with [[stages]] says optimiser in them; move it there"),
        ({"stages": [STAGE | {"start": {"ecg": "random"}}]}, "names the part 'ecg'; wanted one of encoder, text, heads"),
    ],
)
def test_the_first_problem_names_the_place_and_the_key_that_is_meant(change: dict[str, object], told: str) -> None:
    data = {"name": "a", "summary": "b", "encoder": {"name": "c"}} | change
    with pytest.raises(ValidationError) as error:
        Recipe.model_validate(data)
    assert told in first_problem(error.value, Recipe)


def test_an_encoder_alone_or_beside_a_recipe_takes_the_place_of_the_recipes_own() -> None:
    melp, alone, beside = (
        load_recipe("melp"),
        recipe_of(RecipeReference("melp", "resnet1d-18", alone=True)),
        recipe_of(RecipeReference("simclr", "resnet1d-18")),
    )
    assert (alone.name, alone.encoder.name) == ("resnet1d-18", "resnet1d-18")
    assert alone.stages == melp.stages
    assert (beside.name, beside.encoder.name) == ("simclr+resnet1d-18", "resnet1d-18")
    assert beside.stages == load_recipe("simclr").stages


def test_settings_reach_their_place_and_show_in_the_name(tmp_path: Path) -> None:
    settings = {"encoder.layers": "6", "rhythm.weight": "2", "optimiser.betas": "0.8", "heads.width": "64"}
    with pytest.raises(UserError, match="betas"):
        resolve(load_recipe("melp"), discover(), settings)
    del settings["optimiser.betas"]
    changed = resolve(load_recipe("melp"), discover(), settings | {"optimiser.weight_decay": "0.5", "text.causal": "true"})
    assert changed.encoder.options["layers"] == 6
    assert {term.term: term.weight for term in changed.terms()}["rhythm"] == 2.0
    assert changed.heads is not None
    assert changed.heads.options["width"] == 64
    assert {stage.optimiser.weight_decay for stage in changed.stages} == {0.5}
    assert changed.text is not None
    assert changed.text.options["causal"] is True
    assert changed.name.startswith("melp (encoder.layers=6, rhythm.weight=2, ")


def test_a_recipe_of_one_stage_may_be_written_without_it() -> None:
    short = {"name": "a", "summary": "b", "encoder": {"name": "c"}, "objectives": [{"name": "x"}], "freeze": ["heads"]}
    stage = {"name": "pretrain", "objectives": [{"name": "x", "term": "x"}], "freeze": ["heads"]}
    rest = {key: short[key] for key in ("name", "summary", "encoder")}
    assert Recipe.model_validate(short) == Recipe.model_validate(rest | {"stages": [stage]})
    assert Recipe.model_validate(rest | {"objectives": []}).stages == []


@pytest.mark.parametrize("shares", [(1.0,), (0.1, 0.1, 0.8), (0.3, 0.3, 0.4), (0.005, 0.995)])
@pytest.mark.parametrize("steps", [1500, 7, 100])
def test_the_stages_share_out_all_steps_of_the_budget_each_to_within_one(shares: tuple[float, ...], steps: int) -> None:
    stages = [STAGE | {"name": f"s{i}", "share": share} for i, share in enumerate(shares)]
    got = stage_steps(Recipe.model_validate({"name": "a", "summary": "b", "encoder": {"name": "c"}, "stages": stages}), steps)
    assert sum(got) == steps
    assert min(got) >= 1
    assert all(abs(one - share * steps) <= 1 for one, share in zip(got, shares, strict=True))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"start": {"encoder": "alignment"}}, "stage 'one' starts its encoder from 'alignment'"),
        ({"start": {"encoder": "previous"}}, "stage 'one' starts its encoder from 'previous'"),
        ({"objectives": [{"name": "simclr", "views": {"view1": [{"name": "sepia"}]}}]}, "no view named 'sepia'"),
        ({"objectives": [{"name": "simclr", "options": {"temprature": 1}}]}, "did you mean 'temperature'"),
    ],
)
def test_a_stage_that_cannot_be_is_refused_in_a_line(change: dict[str, object], told: str) -> None:
    recipe = load_recipe("simclr")
    stage = recipe.stages[0].model_dump() | {"name": "one"} | change
    changed = Recipe.model_validate(recipe.model_dump() | {"stages": [stage]})
    with pytest.raises(UserError, match=told) as error:
        resolve(changed, discover(), {})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"objectives": [{"name": "rhythm"}]}, r"objectives \['rhythm'\] read reports, but the recipe has no \[text\]"),
        ({"objectives": [{"name": "masked-words"}]}, "needs a text encoder; name one under"),
        ({"objectives": [{"name": "masked"}]}, "objective 'masked' of stage 'one' cannot train this encoder"),
        ({"objectives": [{"name": "supervised"}]}, "there are 0 classes"),
        ({"freeze": ["encoder.nothing"]}, "freeze names 'encoder.nothing'"),
        ({"reports": "reports.txt"}, "stage 'one' has reports of its own, and an objective of it reads records"),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_refused_before_any_work(change: dict[str, object], told: str) -> None:
    recipe = load_recipe("simclr")
    stage = recipe.stages[0].model_dump() | {"name": "one"} | change
    encoder = {"name": "resnet1d-18"}
    changed = Recipe.model_validate(recipe.model_dump() | {"stages": [stage], "encoder": encoder})
    with pytest.raises(UserError, match=told) as error:
        check_recipe(resolve(changed, discover(), {}), discover(), classes=0)
    assert "\n" not in str(error.value)


def test_a_variant_says_only_what_differs(tmp_path: Path) -> None:
    whole, variant = load_recipe("melp"), load_recipe("melp-without-token")
    assert [term.term for term in variant.terms()] == [term.term for term in whole.terms() if term.term != "token"]
    assert variant.encoder == whole.encoder
    assert [stage.share for stage in variant.stages] == [stage.share for stage in whole.stages]
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nsummary = "s"\nbase = "simclr"\nencoder = { name = "resnet1d-18" }\n')
    mine = load_recipe(str(path))
    assert mine.encoder.name == "resnet1d-18"
    assert mine.stages == load_recipe("simclr").stages


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('base = "melp"\nwithout = ["tokens"]', "melp.* has the terms .*token"),
        ('base = "melpp"', "no recipe named 'melpp'"),
        ('without = ["token"]', "wanted another recipe's name"),
        ('base = "simclr"\nwithout = ["simclr"]', "objectives"),
    ],
)
def test_a_variant_that_does_not_fit_is_refused_in_a_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'name = "mine"\nsummary = "s"\n{text}\n')
    with pytest.raises(UserError, match=said):
        load_recipe(str(path))


def test_a_variants_own_objectives_are_those_of_the_last_stage(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nsummary = "s"\nbase = "melp"\nobjectives = [{ name = "rhythm" }]\n')
    mine, base = load_recipe(str(path)), load_recipe("melp")
    assert mine.stages[:-1] == base.stages[:-1]
    assert [term.name for term in mine.stages[-1].objectives] == ["rhythm"]
    assert (mine.stages[-1].name, mine.stages[-1].share) == (base.stages[-1].name, base.stages[-1].share)


def test_variants_in_a_circle_are_refused(tmp_path: Path) -> None:
    one, two = tmp_path / "one.toml", tmp_path / "two.toml"
    one.write_text(f'name = "one"\nsummary = "s"\nbase = "{two}"\n')
    two.write_text(f'name = "two"\nsummary = "s"\nbase = "{one}"\n')
    with pytest.raises(UserError, match="wanted another recipe's name"):
        load_recipe(str(one))
