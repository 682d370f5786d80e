"""Stages: each trains what it says from where it says, and a run that was killed in any of them ends in the same bits."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_method import make_store
from torch import Tensor

from melp_bench.canonical import digest
from melp_bench.checkpoint import Manifest, is_checkpoint, read_manifest
from melp_bench.errors import UserError
from melp_bench.plugins import discover
from melp_bench.progress import Silence, StepValues
from melp_bench.protocol import Pretrain
from melp_bench.recipe import Recipe
from melp_bench.runs.building import check_recipe, load_model
from melp_bench.runs.candidates import Candidate
from melp_bench.runs.resolution import resolve
from melp_bench.runs.starts import digests_of_starts
from melp_bench.runs.training import LOG, STATE, has_begun, make_fabric, obtain
from melp_bench.store import Store

CATALOGUE = discover()
BUDGET = Pretrain(dataset="s", steps=20, batch_size=8, seed=1, validate_every=3)
SMALL = {"width": 4, "seconds": 1.0}
WORDS = {"name": "words", "share": 0.3, "objectives": [{"name": "masked-words"}]}
RECORDS = {"name": "records", "share": 0.3, "objectives": [{"name": "simclr"}]}
ALIGN = {"name": "align", "share": 0.4, "objectives": [{"name": "rhythm"}]}


class Killed(BaseException):
    """What no handler of the loop may catch."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("stores") / "corpus", num_records=200)


def recipe(*stages: dict[str, Any], **changes: Any) -> Recipe:
    """Return a small recipe of these stages."""
    stated = {
        "name": "small",
        "summary": "for tests",
        "encoder": {"name": "resnet1d-18", "options": SMALL},
        "text": {"name": "bert", "options": {"width": 16, "heads": 2, "max_tokens": 24}},
        "heads": {"name": "melp", "options": {"width": 8, "queries": 0}},
        "stages": list(stages),
    }
    return resolve(Recipe.model_validate(stated | changes), CATALOGUE, {})


def train(
    wanted: Recipe, store: Store, folder: Path, *, die_at: tuple[str, int] | None = None
) -> tuple[dict[str, Tensor], Manifest]:
    """Train by a recipe, and return weights and manifest; with `die_at`, die once that step of that stage is done."""

    def die(values: StepValues) -> None:
        if values.part == "train" and (values.stage, values.step) == die_at:
            raise Killed

    method = Candidate(wanted.name, wanted, {"recipe": digest(wanted.model_dump(mode="json"))}, folder)
    obtain(method, CATALOGUE, BUDGET, store, make_fabric("cpu", "32"), Silence(), on_step=[die])
    return load_file(folder / "model.safetensors"), read_manifest(folder)


def of(weights: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in weights.items() if name.startswith(f"{part}.")}


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def three(store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], Manifest]:
    return train(recipe(RECORDS, WORDS, ALIGN), store, tmp_path_factory.mktemp("three") / "whole")


def test_three_stages_leave_one_checkpoint_with_the_curves_of_each(
    store: Store, three: tuple[dict[str, Tensor], Manifest]
) -> None:
    manifest = three[1]
    stages = manifest.pretraining["stages"]
    assert [stage["name"] for stage in stages] == ["records", "words", "align"]
    assert [stage["history"]["step"][-1] for stage in stages] == [6, 6, 8]
    assert [sorted(set(stage["history"]) - {"step", "total"}) for stage in stages] == [
        ["simclr", "train_simclr"],
        ["masked-words", "train_masked-words"],
        ["rhythm", "train_rhythm"],
    ]
    assert all(set(stage["before"]) == set(stage["history"]) & {"simclr", "masked-words", "rhythm"} for stage in stages)
    assert manifest.pretraining["validation_loss"] == stages[-1]["validation_loss"]
    assert manifest.corpora == ["corpus"]
    assert manifest.recipe == recipe(RECORDS, WORDS, ALIGN)


@pytest.mark.parametrize(
    "deaths",
    [
        [("records", 2)],
        [("records", 6)],
        [("words", 1)],
        [("words", 4)],
        [("align", 1)],
        [("align", 8)],
        [("records", 4), ("words", 6), ("align", 5)],
    ],
)
def test_a_run_that_is_killed_in_any_stage_ends_in_the_same_bits(
    store: Store, three: tuple[dict[str, Tensor], Manifest], tmp_path: Path, deaths: list[tuple[str, int]]
) -> None:
    for death in deaths:
        with pytest.raises(Killed):
            train(recipe(RECORDS, WORDS, ALIGN), store, tmp_path / "c", die_at=death)
        assert not is_checkpoint(tmp_path / "c")
    weights, manifest = train(recipe(RECORDS, WORDS, ALIGN), store, tmp_path / "c")
    assert same(weights, three[0])
    assert manifest.pretraining == three[1].pretraining
    assert not (tmp_path / "c" / STATE).exists()


def test_a_run_has_begun_once_something_of_it_is_kept(store: Store, tmp_path: Path) -> None:
    wanted = recipe(RECORDS, WORDS, ALIGN)
    method = Candidate("small", wanted, {}, tmp_path)
    assert not has_begun(method)
    with pytest.raises(Killed):
        train(wanted, store, tmp_path, die_at=("words", 1))
    assert has_begun(method)


def test_a_stage_of_words_trains_the_text_encoder_alone_and_its_perplexity_falls(store: Store, tmp_path: Path) -> None:
    stage = WORDS | {"share": 1.0, "optimiser": {"learning_rate": 0.02}}
    weights, manifest = train(recipe(stage), store, tmp_path / "words")
    fresh, _ = train(recipe(), store, tmp_path / "fresh")
    assert same(of(weights, "encoder"), of(fresh, "encoder"))
    assert same(of(weights, "heads"), of(fresh, "heads"))
    assert not same(of(weights, "text_encoder"), of(fresh, "text_encoder"))
    curves = manifest.pretraining["stages"][0]
    assert math.exp(curves["validation_loss"]) < 0.8 * math.exp(curves["before"]["masked-words"])


def test_every_step_and_every_validation_stands_in_the_log(store: Store, tmp_path: Path) -> None:
    _, manifest = train(recipe(RECORDS, WORDS, ALIGN), store, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / LOG).read_text(encoding="utf-8").splitlines()]
    assert [(row["stage"], row["step"]) for row in rows if row["part"] == "train"] == [
        (stage, step + 1) for stage, steps in (("records", 6), ("words", 6), ("align", 8)) for step in range(steps)
    ]
    validated = [row["total"] for row in rows if row["part"] == "validation" and row["stage"] == "align"]
    curves = manifest.pretraining["stages"][-1]
    assert validated == [curves["before"]["rhythm"], *curves["history"]["total"]]
    steps = [row for row in rows if row["part"] == "train"]
    assert all(row["gradient_norm"] > 0 and row["records_per_second"] > 0 and 0 <= row["waiting"] <= 1 for row in steps)
    assert max(row["learning_rate"] for row in steps) == pytest.approx(1e-3)


@pytest.mark.parametrize("start", ["previous", "records", "random", None])
def test_a_part_starts_from_where_its_stage_says(store: Store, tmp_path: Path, start: str | None) -> None:
    frozen = ALIGN | {"freeze": ["encoder"], "share": 0.7} | ({} if start is None else {"start": {"encoder": start}})
    weights, _ = train(recipe(RECORDS | {"share": 0.3}, frozen), store, tmp_path / "c")
    alone, _ = train(recipe(RECORDS | {"share": 0.3}, WORDS | {"share": 0.7}), store, tmp_path / "alone")
    untrained, _ = train(recipe(), store, tmp_path / "untrained")
    kept = same(of(weights, "encoder"), of(alone, "encoder"))
    assert kept == (start != "random")
    assert not same(of(weights, "encoder"), of(untrained, "encoder"))


def test_a_part_starts_from_an_earlier_stage_whatever_was_trained_since(store: Store, tmp_path: Path) -> None:
    again = {"name": "again", "share": 0.2, "objectives": [{"name": "simclr"}]}
    last = ALIGN | {"share": 0.5, "freeze": ["encoder"], "start": {"encoder": "records"}}
    weights, _ = train(recipe(RECORDS, again, last), store, tmp_path / "c")
    first, _ = train(recipe(RECORDS, WORDS | {"share": 0.7}), store, tmp_path / "first")
    assert same(of(weights, "encoder"), of(first, "encoder"))


def test_only_the_parts_that_a_stage_names_are_trained(store: Store, tmp_path: Path) -> None:
    weights, _ = train(recipe(ALIGN | {"share": 1.0, "parts": ["heads"]}), store, tmp_path / "c")
    fresh, _ = train(recipe(), store, tmp_path / "fresh")
    assert same(of(weights, "encoder"), of(fresh, "encoder"))
    assert same(of(weights, "text_encoder"), of(fresh, "text_encoder"))
    assert not same(of(weights, "heads"), of(fresh, "heads"))


def test_two_terms_of_one_objective_are_told_apart_and_both_count(store: Store, tmp_path: Path) -> None:
    terms = [{"name": "simclr", "term": "warm", "options": {"temperature": 0.5}, "weight": 2.0}, {"name": "simclr"}]
    _, manifest = train(recipe({"name": "one", "objectives": terms}), store, tmp_path)
    curves = manifest.pretraining["history"]
    totals = [2 * one + two for one, two in zip(curves["warm"], curves["simclr"], strict=True)]
    assert curves["total"] == pytest.approx(totals)
    assert curves["warm"] != curves["simclr"]


def test_a_stage_may_read_reports_of_its_own_and_goes_on_with_a_model_of_transformers(store: Store, tmp_path: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    from melp_plugins.text.vocabulary import SPECIAL, learn_bert_vocabulary

    own = [f"pacemaker spikes. capture at {60 + i} bpm." for i in range(90)]
    (tmp_path / "reports.txt").write_text("\n".join(own), encoding="utf-8")
    wrapped = PreTrainedTokenizerFast(tokenizer_object=learn_bert_vocabulary(["normal axis"] * 9, size=30), **SPECIAL)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertForMaskedLM(BertConfig(vocab_size=len(wrapped), max_position_embeddings=40, **sizes)).save_pretrained(tmp_path / "m")
    wrapped.save_pretrained(tmp_path / "m")
    options = {"model": str(tmp_path / "m"), "vocabulary": "extend", "words": 50, "max_tokens": 24, "causal": True}
    stage = WORDS | {"share": 1.0, "reports": str(tmp_path / "reports.txt"), "optimiser": {"learning_rate": 0.02}}
    wanted = recipe(stage, text={"name": "hf", "options": options})
    weights, manifest = train(wanted, store, tmp_path / "c")
    model, _ = load_model(tmp_path / "c", CATALOGUE)
    text = model.text_encoder
    assert text is not None
    assert len(text.tokenize(["pacemaker spikes"]).ids[0]) == 4  # [BOS], the words that were learned, [CLS]
    assert same(of(weights, "text_encoder"), of(model.state_dict(), "text_encoder"))
    curves = manifest.pretraining["stages"][0]
    assert curves["validation_loss"] < curves["before"]["masked-words"] - 0.2
    told = digests_of_starts(wanted, CATALOGUE)["reports"]
    (tmp_path / "reports.txt").write_text("\n".join(own[1:]), encoding="utf-8")
    assert digests_of_starts(wanted, CATALOGUE)["reports"] != told


def test_an_encoder_starts_from_a_checkpoint_of_another_recipe(store: Store, tmp_path: Path) -> None:
    first, _ = train(recipe(RECORDS | {"share": 1.0}), store, tmp_path / "first")
    stage = ALIGN | {"share": 1.0, "freeze": ["encoder"], "start": {"encoder": str(tmp_path / "first")}}
    weights, manifest = train(recipe(stage), store, tmp_path / "c")
    assert same(of(weights, "encoder"), of(first, "encoder"))
    assert manifest.corpora == ["corpus"]
    assert digests_of_starts(recipe(stage), CATALOGUE) == {
        "starts": {"align.encoder": read_manifest(tmp_path / "first").weights_sha256}
    }
    other = recipe(stage, encoder={"name": "resnet1d-18", "options": SMALL | {"width": 6}})
    with pytest.raises(UserError, match=r"does not fit the recipe's encoder, first at .*; give both the same options"):
        train(other, store, tmp_path / "other")


def test_an_encoder_goes_on_from_a_published_file(store: Store, tmp_path: Path) -> None:
    torch.manual_seed(9)
    published = CATALOGUE.ecg_encoders["merl-vit-tiny-encoder"]
    theirs = published.build()
    family = published.published
    assert family is not None
    torch.save({family.published(name): tensor for name, tensor in theirs.state_dict().items()}, tmp_path / "vit.pth")
    source = f"merl-vit-tiny-encoder@{tmp_path / 'vit.pth'}"
    stage = ALIGN | {"share": 1.0, "start": {"encoder": source}, "freeze": ["encoder"]}
    wanted = recipe(stage, encoder={"name": "merl-vit-tiny-encoder"})
    check_recipe(wanted, CATALOGUE, classes=0)
    method = Candidate(wanted.name, wanted, {}, tmp_path / "c")
    budget = BUDGET.model_copy(update={"steps": 2})
    obtain(method, CATALOGUE, budget, store, make_fabric("cpu", "32"), Silence())
    weights, manifest = load_file(tmp_path / "c" / "model.safetensors"), read_manifest(tmp_path / "c")
    assert same(of(weights, "encoder"), {f"encoder.{name}": tensor for name, tensor in theirs.state_dict().items()})
    assert manifest.corpora == [*theirs.corpora, "corpus"]
    assert set(digests_of_starts(wanted, CATALOGUE)["starts"]) == {"align.encoder"}
    with pytest.raises(UserError, match="is of the encoder 'merl-vit-tiny-encoder'; the recipe's encoder is 'resnet1d-18'"):
        train(recipe(stage), store, tmp_path / "wrong")


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        ([ALIGN | {"share": 1.0, "start": {"encoder": "./nowhere"}}], "which is no checkpoint folder"),
        ([RECORDS | {"name": f"s{i}", "share": 0.04} for i in range(25)], "stage 's20' gets 0.04 of 20 steps, which is none"),
    ],
)
def test_a_stage_that_cannot_begin_says_why(store: Store, tmp_path: Path, stages: list[dict[str, Any]], told: str) -> None:
    with pytest.raises(UserError, match=told):
        train(recipe(*stages), store, tmp_path)
