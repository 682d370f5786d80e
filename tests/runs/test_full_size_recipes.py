"""Recipes at their published size: they build, at as many parameters as published, take steps, and resume in the same bits.

A recipe is of full size if its encoder has more than two million parameters. Full models are built without memory; steps are
taken by the same recipes with fewer and narrower layers, and on shorter records of the embedded corpus.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, T5Config, T5EncoderModel

from melp_bench.components import TextSource
from melp_bench.plugins import discover
from melp_bench.progress import Silence, StepValues
from melp_bench.protocol import Protocol
from melp_bench.recipe import Recipe, load_recipe, recipe_names
from melp_bench.runs.building import build_model, build_step
from melp_bench.runs.candidates import Candidate, candidate
from melp_bench.runs.components import build_component
from melp_bench.runs.references import RecipeReference
from melp_bench.runs.resolution import resolve
from melp_bench.runs.stores import open_stores
from melp_bench.runs.training import make_fabric, obtain
from melp_bench.store import Store
from melp_plugins.ecg import d_beta, ecg_fm, melp, merl, merl_layers, st_mem, wav2vec2

CATALOGUE = discover()
FULL_SIZE = 2_000_000  # parameters of the encoder
PUBLISHED = {
    "ecg-fm": 90_883_072,  # the README of bowang-lab/ECG-FM
    "ecg-jepa": 182_000_640,  # its pretraining model: encoder, target and predictor, with their positions
    "st-mem": 88_534_753,  # its pretraining model, whose patch embedding stands in the file twice
    "heartlang": 44_562_176 + 25_706_721 - 2 * 8192 * 128 - 2 * 8192 - 1,  # both models; codes are no parameters
}
SMALL = {
    **dict.fromkeys(("layers", "depth", "decoder_depth", "decoder_layers", "predictor_depth"), "1"),
    **dict.fromkeys(("hidden", "projected", "bottleneck", "prototypes"), "16"),
    "past": "8",
    "ahead": "2",
    "width": "48",
}
"""Options that make a component of a recipe shallow and narrow, by name."""
OF_ENCODER = {
    "heartlang-in-training": {
        f"encoder.{option}": value
        for option, value in {"width": 32, "heads": 1, "hidden": 32, "hidden_of_codes": 32, "codes": 16}.items()
    },
    "d-beta": {"heads.width": 64},
}
SECONDS = 3.0  # of a record: few tokens, and more than a span of masked ones
STEPS = 3
PROTOCOL = Protocol.model_validate(
    {
        "name": "three-steps",
        "revision": 1,
        "summary": "for tests",
        "datasets": {"s": {"dataset": "synthetic", "options": {"num_records": 40, "seed": 1}}},
        "pretrain": {"dataset": "s", "steps": STEPS, "batch_size": 2, "validate_every": 2},
        "interval": {"resamples": 10},
        "evaluations": [{"name": "linear_probe", "tasks": ["s/super"]}],
    }
)


def resolved(name: str) -> Recipe:
    return resolve(load_recipe(name), CATALOGUE, {})


def encoder_parameters(recipe: Recipe) -> int:
    """Return how many parameters a recipe's encoder has, built without memory."""
    with torch.device("meta"):
        encoder = build_component(CATALOGUE.ecg_encoders[recipe.encoder.name], recipe.encoder.options)
    return sum(p.numel() for p in encoder.parameters())


FULL = [name for name in recipe_names() if encoder_parameters(resolved(name)) > FULL_SIZE]


def test_recipes_are_told_apart_by_their_size() -> None:
    assert {"ecg-fm", "st-mem", "heartlang", "merl-2024-crt", "merl-2024-st-mem"} <= set(FULL)
    assert not {"melp", "merl", "simclr", "mae", "ecg-fm-demo", "st-mem-demo", "heartlang-demo"} & set(FULL)


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_a_recipe_has_as_many_parameters_as_its_paper_counts(name: str) -> None:
    recipe = resolved(name)
    with torch.device("meta"):
        model = build_model(recipe, CATALOGUE, TextSource(), seed=0)
        heads = [build_step(stage, CATALOGUE, model, classes=0).objectives for stage in recipe.stages]
    assert sum(p.numel() for module in (model, *heads) for p in module.parameters()) == PUBLISHED[name]


@pytest.fixture
def shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the published sizes of encoders be small ones, and their records short."""
    monkeypatch.setattr(d_beta, "WIDTH", 64)
    monkeypatch.setattr(d_beta.DBeta, "width", 64)
    for name in ("small", "base"):
        monkeypatch.setitem(wav2vec2.SIZES, name, wav2vec2.Size(1, 64, 1, 64))
        monkeypatch.setitem(st_mem.SIZES, name, (64, 1))
    monkeypatch.setattr(st_mem.StMem, "depth", 1)
    for name in merl_layers.VITS:
        monkeypatch.setitem(merl_layers.VITS, name, (64, 1))
    for depth in merl_layers.RESNETS:
        monkeypatch.setitem(merl_layers.RESNETS, depth, (1, 1, 1, 1))
    monkeypatch.setattr(merl, "SPEC", replace(merl.SPEC, seconds=SECONDS))
    for kind in (d_beta.DBeta, ecg_fm.ECGFM, melp.MELPEncoder, merl.MerlBackbone, merl.MerlEncoder, st_mem.StMem):
        monkeypatch.setattr(kind, "spec", replace(kind.spec, seconds=SECONDS))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELP_BENCH_HOME", str(tmp_path_factory.mktemp("home")))
        return open_stores(PROTOCOL, CATALOGUE, Silence(), workers=1)["s"]


@pytest.fixture(scope="module")
def text_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return folders of a small BERT and a small T5, which stand in for the hub's."""
    torch.manual_seed(0)
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    words = [*special.values(), ".", "normal", "sinus", "rhythm", "ecg"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    sizes = {"hidden_size": 16, "num_hidden_layers": 7, "num_attention_heads": 1, "intermediate_size": 16}
    made = {
        "bert": BertModel(BertConfig(vocab_size=len(words), **sizes)),
        "t5": T5EncoderModel(T5Config(vocab_size=len(words), d_model=16, d_kv=16, d_ff=16, num_layers=1, num_heads=1)),
    }
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in made}
    for kind, folder in folders.items():
        made[kind].save_pretrained(folder)
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return folders


def small(name: str, text_models: dict[str, Path]) -> dict[str, str]:
    """Return settings that make a recipe shallow and narrow, and its text model a local one."""
    recipe = load_recipe(name)
    parts = {"encoder": CATALOGUE.ecg_encoders[recipe.encoder.name]}
    parts |= {} if recipe.text is None else {"text": CATALOGUE.text_encoders[recipe.text.name]}
    parts |= {term.term: CATALOGUE.objectives[term.name] for term in recipe.terms()}
    found = {f"{part}.{name}": SMALL[name] for part, entry in parts.items() for name in entry.options() if name in SMALL}
    if recipe.text is not None and recipe.text.name == "hf":
        found["text.model"] = str(text_models["t5" if "t5" in recipe.text.options["model"] else "bert"])
    return found | {path: str(value) for path, value in OF_ENCODER.get(recipe.encoder.name, {}).items()}


def train(found: Candidate, store: Store, *, die_after: int = 0) -> Path:
    """Pretrain by a few steps, and return the checkpoint; with `die_after`, die after that step."""
    steps_done = 0

    def die(values: StepValues) -> None:
        nonlocal steps_done
        steps_done += values.part == "train"
        if die_after and steps_done > die_after:
            raise KeyboardInterrupt

    obtain(found, CATALOGUE, PROTOCOL.pretrain, store, make_fabric("cpu", "32"), Silence(), on_step=[die])
    return found.folder


@pytest.mark.parametrize("name", FULL)
@pytest.mark.usefixtures("shrunk")
def test_a_full_size_recipe_takes_three_steps_and_resumes_in_the_same_bits(
    name: str, store: Store, text_models: dict[str, Path], tmp_path: Path
) -> None:
    assert PROTOCOL.pretrain is not None
    found = candidate(
        RecipeReference(name),
        CATALOGUE,
        settings=small(name, text_models),
        pretrain=PROTOCOL.pretrain,
        stores={"s": store},
        checkpoints=tmp_path,
    )
    killed = replace(found, folder=tmp_path / "killed")
    whole = train(found, store)
    with pytest.raises(KeyboardInterrupt):
        train(killed, store, die_after=2)
    resumed = train(killed, store)
    assert (whole / "model.safetensors").read_bytes() == (resumed / "model.safetensors").read_bytes()
    told = [json.loads(line) for line in (whole / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    taken = [line for line in told if line["part"] == "train"]
    assert len(taken) == STEPS
    assert all(math.isfinite(value) for line in taken for value in line["terms"].values())
