"""Rows: keyed by their inputs, written whole, checked when read."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from melp_bench import home
from melp_bench.canonical import digest
from melp_bench.errors import UserError
from melp_bench.results import (
    ClassScore,
    Inputs,
    MetricLabel,
    Outcome,
    ResultRecord,
    Score,
    current,
    read_result,
    read_results,
    write_result,
)

texts = st.text(max_size=5)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


LABELS = {"auroc": MetricLabel(label="macro AUROC")}


def inputs(**change: object) -> Inputs:
    made = {"model": {"seed": 0}, "evaluation": {"name": "e"}, "task": "d/t", "tasks": {"d/t": "0"}, "datasets": {"d": "f"}}
    made |= {"interval": {"level": 0.9}, "code": {"encoder e": "1"}, "versions": {"signal": 1}}
    return Inputs.model_validate(made | change)


def row(**change: object) -> ResultRecord:
    given = inputs()
    score = Outcome(scores={"auroc": Score(value=0.5, low=0.4, high=0.6)}, metrics=LABELS, primary="auroc")
    fields = {
        "key": given.key,
        "inputs": given,
        "protocol": "tiny",
        "protocol_revision": 1,
        "model": "m",
        "protocol_hash": "h",
        "outcome": score,
    }
    fields |= {"evaluation": "e", "evaluation_version": 1, "task": "d/t", "generated": True, "status": "scored"}
    return ResultRecord.model_validate(fields | change)


@given(st.dictionaries(texts, values, max_size=4))
def test_equal_inputs_have_equal_keys_whatever_their_order(model: dict[str, object]) -> None:
    backwards = dict(reversed(list(model.items())))
    assert inputs(model=model).key == inputs(model=backwards).key == inputs(model=json.loads(json.dumps(model))).key


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"seed": 1}},
        {"evaluation": {"name": "e", "options": {"k": 2}}},
        {"tasks": {"d/t": "1"}},
        {"interval": {"level": 0.95}},
        {"code": {"encoder e": "2"}},
        {"versions": {"signal": 2}},
        {"datasets": {"d": "g"}},
        {"datasets": {"c": "f"}},
        {"task": "d/u"},
    ],
)
def test_every_input_moves_the_key(change: dict[str, object]) -> None:
    assert inputs(**change).key != inputs().key


def test_code_alone_moves_the_key_and_not_what_was_measured() -> None:
    for change in ({"code": {"encoder e": "2"}}, {"versions": {"signal": 2}}):
        assert inputs(**change).but_for_code == inputs().but_for_code
    for change in ({"task": "d/u"}, {"model": {"seed": 1}}, {"datasets": {"d": "g"}}, {"tasks": {}}):
        assert inputs(**change).but_for_code != inputs().but_for_code


def test_of_rows_that_differ_by_code_the_one_planned_last_is_current_under_every_protocol() -> None:
    def made(code: str, since: str, protocol: str = "tiny", **change: object) -> ResultRecord:
        given = inputs(code={"encoder e": code}, **change)
        return row(key=given.key, inputs=given, protocol=protocol, current_since=since)

    old, new, elsewhere = made("1", "2026-01-01"), made("2", "2026-01-02"), made("1", "2026-01-01", "other")
    another = made("1", "2025-01-01", task="d/u")
    assert current([old, new, another, elsewhere]) == ([new, another], [old, elsewhere])
    reverted = made("1", "2026-01-03")
    assert current([reverted, new, elsewhere]) == ([reverted, elsewhere], [new])
    assert current([]) == ([], [])
    undated = row(key=old.key, inputs=old.inputs, created="2026-01-04")
    assert current([undated, new]) == ([undated], [new])


def test_a_value_that_is_no_json_is_refused_and_never_replaced_by_its_repr() -> None:
    with pytest.raises(TypeError):
        digest({"path": Path("x")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest({"rate": math.nan})


def test_a_row_comes_back_as_it_was(tmp_path: Path) -> None:
    path = write_result(row(), tmp_path)
    assert path == tmp_path / "tiny" / f"{row().key}.json"
    assert read_result(path) == row()
    assert list(read_results(tmp_path)) == [row()]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_is_finite(value: float) -> None:
    with pytest.raises(ValidationError):
        Score(value=value, low=0.0, high=1.0)


@pytest.mark.parametrize(
    "change",
    [
        {"primary": "auprc"},
        {"primary": "ece", "not_measured": {"ece": "no probabilities"}},
        {"not_measured": {"ece": "no probabilities"}},
        {"metrics": {}},
        {"classes": [ClassScore(name="a", positives=1, records=2, scores={"ece": Score(value=0.1, low=0.0, high=0.2)})]},
    ],
)
def test_an_outcome_has_its_primary_metric_and_a_label_for_all_that_it_names(change: dict[str, object]) -> None:
    given = {"scores": {"auroc": Score(value=0.5, low=0.4, high=0.6)}, "metrics": LABELS, "primary": "auroc"}
    Outcome.model_validate(given)
    with pytest.raises(ValidationError, match="wanted a score of the primary metric, and a label for every metric"):
        Outcome.model_validate(given | change)


@pytest.mark.parametrize("bound", [math.inf, math.nan])
def test_a_bound_that_is_no_number_is_none(bound: float) -> None:
    assert MetricLabel(label="error", bounds=(0.0, None)).bounds == (0.0, None)
    with pytest.raises(ValidationError):
        MetricLabel(label="error", bounds=(0.0, bound))


def test_death_while_writing_leaves_the_row_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_result(row(), tmp_path)

    def dying(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(home.os, "fsync", dying)
    with pytest.raises(KeyboardInterrupt):
        write_result(row(model="other"), tmp_path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert read_result(path) == row()


def test_a_row_that_was_edited_or_moved_is_told_from_a_good_one(tmp_path: Path) -> None:
    path = write_result(row(), tmp_path)
    good = path.read_text(encoding="utf-8")
    moved = path.with_name("0" * 64 + ".json")
    moved.write_text(good, encoding="utf-8")
    with pytest.raises(UserError, match=r"edited\. Delete it"):
        read_result(moved)
    for bad, told in [
        (good.replace('"seed": 0', '"seed": 1').replace('"seed":0', '"seed":1'), "edited"),
        (good[:50], "is not a result row"),
        ("", "is not a result row"),
        (good.replace('"status"', '"state"'), "is not a result row: "),
        (good.replace("0.5", "NaN"), "is not a result row"),
    ]:
        assert bad != good
        path.write_text(bad, encoding="utf-8")
        with pytest.raises(UserError, match=told):
            read_result(path)
