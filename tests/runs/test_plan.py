"""A row's key holds what its number depends on and nothing of its neighbours; what is there is taken over, not made again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from melp_bench.checkpoint import is_checkpoint
from melp_bench.errors import UnknownName, UserError
from melp_bench.plugins import Catalogue, discover
from melp_bench.progress import Silence
from melp_bench.protocol import Protocol
from melp_bench.results import ResultRecord, current, read_results, write_result
from melp_bench.runs import candidates as of_candidates
from melp_bench.runs import measurements as of_evaluations
from melp_bench.runs.candidates import candidate
from melp_bench.runs.execute import _record, execute
from melp_bench.runs.kept import code_changes, take_over
from melp_bench.runs.measurements import measurements
from melp_bench.runs.plan import Plan, make_plan
from melp_bench.runs.references import parse
from melp_bench.runs.run import Sketch, look_ahead
from melp_bench.runs.run_spec import make_spec
from melp_bench.runs.stores import open_stores
from melp_bench.runs.training import make_fabric
from melp_bench.store import Store

CATALOGUE = discover()
CONTENT: dict[str, Any] = {
    "name": "plan",
    "revision": 1,
    "summary": "",
    "datasets": {"s": {"dataset": "synthetic", "options": {"num_records": 60, "seed": 2}}},
    "pretrain": {"dataset": "s", "steps": 2, "batch_size": 8},
    "interval": {"resamples": 10},
    "evaluations": [
        {"name": "linear_probe", "tasks": ["s/super"], "options": {"fractions": [0.5, 1.0], "seeds": [0], "epochs": 2}},
        {"name": "zero_shot", "tasks": ["s/super"]},
    ],
}


def rule(**changes: Any) -> Protocol:
    return Protocol.model_validate({**json.loads(json.dumps(CONTENT)), **changes})


def with_uses(*more: dict[str, Any], first: bool = False) -> Protocol:
    """Return the protocol with further evaluations, after or before its own."""
    uses = json.loads(json.dumps(CONTENT))["evaluations"]
    return rule(evaluations=[*more, *uses] if first else [*uses, *more])


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Store]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELP_BENCH_HOME", str(tmp_path_factory.mktemp("home")))
        return open_stores(rule(), CATALOGUE, Silence(), workers=1)


@pytest.fixture
def planned(stores: dict[str, Store], tmp_path: Path) -> Callable[..., Plan]:
    """Return a function from a protocol and names of models to the plan."""

    def plan(protocol: Protocol, *models: str, catalogue: Catalogue = CATALOGUE) -> Plan:
        found = [
            candidate(
                parse(m, catalogue),
                catalogue,
                settings={},
                pretrain=protocol.pretrain,
                stores=stores,
                checkpoints=tmp_path / "c",
            )
            for m in models or ("random-init",)
        ]
        return make_plan(protocol, found, catalogue, stores, tmp_path / "results")

    return plan


def keys(plan: Plan) -> dict[str, str]:
    return {str(row): row.inputs.key for row in plan.rows}


# ---------------------------------------------------------------------------------------------------------------- keys


def test_a_further_pretraining_seed_is_a_row_of_its_own_and_moves_no_other(planned: Callable[..., Plan]) -> None:
    one, more = rule(), rule(pretrain={**CONTENT["pretrain"], "seeds": {"random-init": 3}})
    assert more.hash == one.hash
    assert planned(more).rows[0].inputs.key == planned(one).rows[0].inputs.key
    other = planned(rule(pretrain={**CONTENT["pretrain"], "seed": 1})).rows[0].inputs
    assert other.key != planned(one).rows[0].inputs.key
    assert other.method == planned(one).rows[0].inputs.method


def test_a_run_plans_every_seed_that_the_protocol_gives_a_model(
    stores: dict[str, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(stores["s"].root.parent.parent))
    protocol = rule(pretrain={**CONTENT["pretrain"], "seeds": {"random-init": 2}})
    spec = make_spec(protocol, ["random-init", "simclr"], out=tmp_path)
    found = look_ahead(spec, CATALOGUE)
    assert not isinstance(found, Sketch)
    labels = dict.fromkeys(row.candidate.told for row in found[0].rows)
    assert list(labels) == ["random-init", "random-init (seed 1)", "simclr"]


def test_seeds_of_a_model_that_is_not_run_are_refused() -> None:
    """A name that was misspelt would be pretrained by one seed, and nobody told."""
    with pytest.raises(ValidationError, match=r"seeds names \['mepl'\]; models are melp"):
        rule(models=["melp"], pretrain={**CONTENT["pretrain"], "seeds": {"mepl": 3}})


def test_no_model_has_less_than_one_seed() -> None:
    with pytest.raises(ValidationError, match="wanted at least 1 each"):
        rule(pretrain={**CONTENT["pretrain"], "seeds": {"melp": 0}})


def test_adding_an_evaluation_keeps_every_old_key(planned: Callable[..., Plan]) -> None:
    before = keys(planned(rule()))
    assert len(before) == 3
    knn = {"name": "knn", "tasks": ["s/super", "s/rhythm"]}
    for more in (with_uses(knn), with_uses(knn, first=True)):
        after = keys(planned(more))
        assert len(after) == 5
        assert before.items() <= after.items()
    fewer = keys(planned(rule(evaluations=CONTENT["evaluations"][:1])))
    assert fewer.items() <= before.items()


def test_what_a_protocol_is_called_and_who_else_is_scored_moves_no_key(planned: Callable[..., Plan]) -> None:
    before = keys(planned(rule()))
    assert keys(planned(rule(name="other", revision=7, summary="other words", models=["melp"]))) == before
    both = planned(rule(), "random-init", "simclr")
    assert [row.inputs.key for row in both.rows if row.candidate.label == "random-init"] == list(before.values())
    assert rule(name="other").hash != rule().hash


@pytest.mark.parametrize(
    ("changes", "moved"),
    [
        ({"interval": {"resamples": 11}}, {"linear_probe s/super 50 %", "linear_probe s/super 100 %", "zero_shot s/super"}),
        (
            {"datasets": {"s": {**CONTENT["datasets"]["s"], "split": "cross-validate"}}},
            {"linear_probe s/super 50 %", "linear_probe s/super 100 %", "zero_shot s/super"},
        ),
    ],
)
def test_what_every_row_depends_on_moves_every_key(planned: Callable[..., Plan], changes: Any, moved: set[str]) -> None:
    before, after = keys(planned(rule())), keys(planned(rule(**changes)))
    assert {name for name in before if after[name] != before[name]} == moved


def test_an_option_or_a_metric_moves_its_own_rows_and_no_other(planned: Callable[..., Plan]) -> None:
    before = keys(planned(rule()))
    probe, zero_shot = json.loads(json.dumps(CONTENT["evaluations"]))
    probe["options"]["patience"] = 9
    after = keys(planned(rule(evaluations=[probe, zero_shot])))
    assert {name for name in before if after[name] != before[name]} == {n for n in before if n.startswith("linear_probe")}
    zero_shot["metrics"] = ["auprc"]
    after = keys(planned(rule(evaluations=[CONTENT["evaluations"][0], zero_shot])))
    assert {name for name in before if after[name] != before[name]} == {"zero_shot s/super"}
    named = {**CONTENT["evaluations"][1], "metrics": ["auroc", "auprc"]}  # what is usual, said aloud
    assert keys(planned(rule(evaluations=[CONTENT["evaluations"][0], named]))) == before


def test_options_are_keyed_with_their_defaults_and_in_one_spelling(planned: Callable[..., Plan]) -> None:
    probe = {**CONTENT["evaluations"][0], "options": {"fractions": [0.5, 1], "seeds": [0], "epochs": 2, "patience": 5}}
    assert keys(planned(rule(evaluations=[probe, CONTENT["evaluations"][1]]))) == keys(planned(rule()))


def test_the_code_of_every_component_is_in_the_key_and_moves_what_it_is_read_by(
    planned: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = planned(rule(), "simclr")
    (probe, *_) = before.rows
    assert set(probe.inputs.code) >= {"evaluation linear_probe", "metric auroc", "metric auprc", "objective simclr"}
    assert any(name.startswith("ECG encoder ") for name in probe.inputs.code)
    assert probe.inputs.versions["evaluation linear_probe"] == probe.planned.evaluation.version
    assert {"embedding", "signal", "bootstrap"} <= set(probe.inputs.versions)
    digest = of_evaluations.code_digest
    monkeypatch.setattr(of_evaluations, "code_digest", lambda entry: "new" if entry.name == "zero_shot" else digest(entry))
    after = planned(rule(), "simclr")
    assert {str(a) for a, b in zip(after.rows, before.rows, strict=True) if a.inputs.key != b.inputs.key} == {
        "zero_shot s/super"
    }
    assert [a.inputs.but_for_code for a in after.rows] == [b.inputs.but_for_code for b in before.rows]


def test_rows_that_a_reader_could_not_tell_apart_say_in_what_they_differ() -> None:
    uses = [{"name": "knn", "tasks": ["s/super"], "options": {"k": k}} for k in (5, 20)]
    uses += [{"name": "zero_shot", "tasks": ["s/super"], "metrics": [metric]} for metric in ("auroc", "auprc")]
    settings = [row.measurement.setting for row in measurements(rule(evaluations=uses), CATALOGUE)]
    assert settings == ["(k = 5)", "(k = 20)", "(metrics = macro AUROC)", "(metrics = macro AUPRC)"]
    assert len(measurements(rule(evaluations=[uses[0], uses[0]]), CATALOGUE)) == 1


@pytest.mark.parametrize(
    ("use", "error", "told"),
    [
        ({"name": "linear_prob"}, UnknownName, "no evaluation named 'linear_prob'; did you mean 'linear_probe'"),
        ({"metrics": ["aurok"]}, UnknownName, "no metric named 'aurok'; did you mean 'auroc'"),
        ({"options": {"fraction": [1.0]}}, UserError, "'linear_probe' has no option 'fraction'; did you mean 'fractions'"),
        ({"options": {"fractions": ["x"]}}, UserError, "option 'fractions' of 'linear_probe' is"),
        ({"options": {"seeds": [0.5]}}, UserError, "option 'seeds' of 'linear_probe' is"),
        ({"options": {"fractions": [2.0]}}, UserError, "wanted more than 0 and at most 1"),
        ({"tasks": ["s/supper"]}, UnknownName, "has no task 'supper'; did you mean 'super'"),
        ({"tasks": ["s"]}, UserError, "task 's' is not ALIAS/TASK"),
    ],
)
def test_a_use_that_cannot_be_run_is_refused_before_any_work(
    planned: Callable[..., Plan], use: Any, error: Any, told: str
) -> None:
    with pytest.raises(error, match=told):
        planned(rule(evaluations=[{**CONTENT["evaluations"][0], **use}]))


# ------------------------------------------------------------------------------------------------------------ kept rows


def fill(plan: Plan) -> list[ResultRecord]:
    """Write a row without a score for everything that the plan lacks, and return all rows that are there."""
    for row in plan.missing():
        write_result(_record(row, plan, "for tests", {}, torch.device("cpu")), plan.results)
    return list(read_results(plan.results))


def test_a_row_made_under_another_content_of_the_protocol_goes_on_under_its_new_hash(planned: Callable[..., Plan]) -> None:
    old = fill(planned(rule()))
    wider = planned(with_uses({"name": "knn", "tasks": ["s/super"]}, first=True))
    assert [str(row) for row in wider.missing()] == ["knn s/super"]
    taken = take_over(wider, old)
    assert {row.key for row in taken} == {row.key for row in old}
    rows = fill(wider)
    assert len(rows) == 4
    assert {row.protocol_hash for row in rows} == {wider.protocol.hash}
    assert min(rows, key=lambda row: row.order).evaluation == "knn"
    assert {row.created for row in rows if row.evaluation != "knn"} == {row.created for row in old}
    assert take_over(wider, rows) == []


def test_a_row_made_under_another_protocol_is_copied(planned: Callable[..., Plan]) -> None:
    old = fill(planned(rule()))
    other = planned(rule(name="other"))
    assert other.missing() == []
    take_over(other, old)
    rows = list(read_results(other.results))
    assert sorted(row.protocol for row in rows) == ["other"] * 3 + ["plan"] * 3
    assert all(row.path(other.results, other.protocol).is_file() for row in other.rows)
    assert current(rows) == (rows, [])


def test_edited_code_makes_rows_anew_beside_the_old_and_taking_the_edit_back_makes_nothing(
    planned: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = planned(rule())
    old = fill(before)
    assert code_changes(before, old) == {}
    with monkeypatch.context() as edit:
        edit.setattr(of_candidates, "code_digest", lambda entry: "edited")
        edited = planned(rule())
        assert len(edited.missing()) == 3
        assert code_changes(edited, old) == {"random-init": 3}
        both = fill(edited)
        assert code_changes(edited, both) == {}
        assert {row.key for row in current(both)[0]} == {row.inputs.key for row in edited.rows}
        assert {row.key for row in current(both)[1]} == {row.key for row in old}
        assert take_over(edited, both) == []
    reverted = planned(rule())
    assert reverted.missing() == []
    assert len(take_over(reverted, both)) == 3
    rows = list(read_results(reverted.results))
    assert {row.key for row in current(rows)[0]} == {row.key for row in old}
    assert len(rows) == 6
    assert take_over(reverted, rows) == []


def test_a_row_that_does_not_fit_its_model_is_written_and_nothing_is_made_for_it(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = planned(rule(evaluations=CONTENT["evaluations"][1:]), "simclr")
    assert [row.reason for row in plan.rows] == ["needs a text encoder"]
    fabric = make_fabric("cpu", "32")
    assert execute(plan, CATALOGUE, fabric=fabric, listener=Silence(), features=tmp_path / "features") == []
    (row,) = read_results(plan.results)
    assert plan.rows[0].path(plan.results, plan.protocol).is_file()
    assert (row.status, row.reason, row.evaluation_label) == ("not-applicable", "needs a text encoder", "zero-shot")
    assert not is_checkpoint(plan.rows[0].candidate.folder)
    assert not (tmp_path / "features").exists()


def test_a_task_that_changed_moves_the_keys_of_its_rows(planned: Callable[..., Plan], stores: dict[str, Store]) -> None:
    knn = {"name": "knn", "tasks": ["s/super", "s/rhythm"]}
    before, task = keys(planned(with_uses(knn))), stores["s"].tasks["super"]
    try:
        stores["s"].tasks["super"] = replace(task, members=dict(list(task.members.items())[1:]))
        after = keys(planned(with_uses(knn)))
    finally:
        stores["s"].tasks["super"] = task
    assert {name for name in before if after[name] == before[name]} == {"knn s/rhythm"}


def test_a_recipe_for_every_small_encoder_is_planned_for_each(
    stores: dict[str, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names and what they stand for were told apart by their places, and one name may stand for several models."""
    monkeypatch.setenv("MELP_BENCH_HOME", str(stores["s"].root.parent.parent))
    found = look_ahead(make_spec(rule(), ["simclr", "random-init+*"], out=tmp_path), CATALOGUE)
    assert not isinstance(found, Sketch)
    labels = list(dict.fromkeys(row.candidate.told for row in found[0].rows))
    assert labels[0] == "simclr"
    assert {"random-init+conv-transformer", "random-init+resnet1d-18"} <= set(labels[1:])
