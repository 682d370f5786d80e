"""A pretraining as its user sees it: what a collapse leaves in the checkpoint and in facts, and what loggers are handed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from alike_method import Alike
from tiny_method import Encoder, make_store

import melp_bench as mb
from melp_bench.checkpoint import read_manifest
from melp_bench.plugins import Catalogue, discover, register
from melp_bench.progress import Silence
from melp_bench.protocol import Pretrain
from melp_bench.recipe import Recipe
from melp_bench.runs.building import load_model
from melp_bench.runs.candidates import Candidate
from melp_bench.runs.execute import model_facts
from melp_bench.runs.pictures import draw_pictures
from melp_bench.runs.resolution import resolve
from melp_bench.runs.training import LOG, make_fabric, obtain
from melp_bench.store import Store

BUDGET = Pretrain(dataset="s", steps=40, batch_size=8, seed=1, validate_every=20)


class Told(Silence):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


class Kept(mb.RunLogger):
    """Keeps what it is handed."""

    def __init__(self) -> None:
        self.runs: list[mb.LoggedRun] = []
        self.values: list[mb.StepValues] = []
        self.ended = 0

    def begin(self, run: mb.LoggedRun) -> None:
        self.runs.append(run)

    def log(self, values: mb.StepValues) -> None:
        self.values.append(values)

    def end(self) -> None:
        self.ended += 1


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    found = discover()

    def encoder(*, dropout: float = 0.0) -> Encoder:
        return Encoder(dropout)

    def alike(sizes: mb.Sizes, *, contrasted: bool = False) -> Alike:
        return Alike(contrasted=contrasted)

    def melp_ecg_encoders() -> list[mb.Entry[mb.ECGEncoder]]:
        return [mb.Entry("tiny-encoder", encoder, "for this test")]

    def melp_objectives() -> list[mb.Entry[mb.Objective]]:
        return [mb.Entry("alike", alike, "for this test")]

    hooks = {hook.__name__: mb.hookimpl(hook) for hook in (melp_ecg_encoders, melp_objectives)}
    register(found, SimpleNamespace(**hooks), "made-for-a-test")
    return found


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("stores") / "corpus", num_records=120)


def pretrained(catalogue: Catalogue, store: Store, folder: Path, *, contrasted: bool) -> tuple[Candidate, Told, Kept]:
    stated = {
        "name": "alike",
        "summary": "for tests",
        "encoder": {"name": "tiny-encoder"},
        "objectives": [{"name": "alike", "options": {"contrasted": contrasted}}],
        "optimiser": {"learning_rate": 0.05, "warmup_fraction": 0.0, "weight_decay": 0.0},
    }
    candidate = Candidate("alike", resolve(Recipe.model_validate(stated), catalogue, {}), {"made": "here"}, folder)
    told, kept = Told(), Kept()
    obtain(candidate, catalogue, BUDGET, store, make_fabric("cpu", "32"), told, loggers={"kept": kept})
    return candidate, told, kept


def test_a_collapse_is_told_and_stands_in_the_checkpoint_and_in_the_facts(
    catalogue: Catalogue, store: Store, tmp_path: Path
) -> None:
    candidate, told, kept = pretrained(catalogue, store, tmp_path, contrasted=False)
    manifest = read_manifest(tmp_path)
    (sign,) = manifest.pretraining["signs"]
    assert sign.startswith("embeddings of records point one way")
    assert manifest.pretraining["stages"][0]["signs"] == [sign]
    assert manifest.pretraining["stages"][0]["health"]["ecg variance"][-1] < 0.01
    assert sum(line.startswith("collapse alike pretrain  step 20: embeddings of records") for line in told.said) == 1
    assert model_facts(load_model(tmp_path, catalogue)[0], manifest)["collapse"] == [sign]
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text(encoding="utf-8").splitlines()]
    assert lines[-1]["part"] == "validation"
    assert lines[-1]["signs"] == [sign]
    assert {"ecg rank", "ecg variance"} == set(lines[-1]["numbers"])
    assert [run.name for run in kept.runs] == ["alike"]
    assert kept.runs[0].settings["budget"]["steps"] == 40
    assert [v.step for v in kept.values if v.part == "train"] == list(range(1, 41))
    assert kept.ended == 1
    assert [path.name for path in draw_pictures(candidate, store, catalogue=catalogue)] == ["curves.png"]
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_a_healthy_one_leaves_no_word_of_it(catalogue: Catalogue, store: Store, tmp_path: Path) -> None:
    _, told, _ = pretrained(catalogue, store, tmp_path, contrasted=True)
    manifest = read_manifest(tmp_path)
    assert manifest.pretraining["signs"] == []
    assert not any("collapse" in line for line in told.said)
    assert "collapse" not in model_facts(load_model(tmp_path, catalogue)[0], manifest)
