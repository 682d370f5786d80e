"""Recipes at full size, built without memory and without the hub: a published text model by its configuration alone."""

from __future__ import annotations

import json
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, T5Config

from melp_bench.components import TextSource
from melp_bench.model import Model
from melp_bench.plugins import Catalogue
from melp_bench.pretrain.step import Step
from melp_bench.recipe import Recipe, load_recipe
from melp_bench.runs.building import build_model, build_step
from melp_bench.runs.components import num_parameters_of
from melp_bench.runs.references import DEMO_PARAMETERS
from melp_bench.runs.resolution import resolve

SIZES: dict[tuple[str, str], int | None] = {}
"""Parameters of encoders with their options, each counted once."""
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[BOS]", "."]
BERT = {"vocab_size": 30522}  # MedCPT's and heart_bert's sizes are BERT's
FLAN_T5_BASE = {
    "vocab_size": 32128, "d_model": 768, "d_kv": 64, "d_ff": 2048, "num_layers": 12, "num_heads": 12,
    "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
}  # fmt: skip


def is_full_size(recipe: Recipe, catalogue: Catalogue) -> bool:
    """Return whether a recipe is none of a demo's: its text model is of the hub, or its encoder is large."""
    if recipe.text is not None and recipe.text.name == "hf":
        return True
    key = (recipe.encoder.name, str(recipe.encoder.options))
    if key not in SIZES:
        SIZES[key] = num_parameters_of(catalogue.ecg_encoders[recipe.encoder.name], recipe.encoder.options)
    size = SIZES[key]
    return size is None or size > DEMO_PARAMETERS


def text_source(options: dict[str, Any]) -> TextSource:
    """Return what a checkpoint of the text model would hold, with a vocabulary of hardly a word."""
    t5 = "t5" in options["model"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(SPECIAL)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    config = T5Config(**FLAN_T5_BASE) if t5 else BertConfig(**BERT)  # type: ignore[arg-type]
    before, after = ([], [3]) if t5 else ([5], [2]) if options["causal"] else ([2], [3])
    special = {"before": before, "after": after, "pad": 0, "mask": 4}
    assets = {"config.json": config.to_json_string(use_diff=False), "tokenizer.json": tokenizer.to_str()}
    return TextSource(assets={**assets, "special_tokens.json": json.dumps(special)})


def resolved(name: str, catalogue: Catalogue) -> Recipe:
    """Return a shipped recipe with all its options."""
    return resolve(load_recipe(name), catalogue, {})


def build_on_meta(recipe: Recipe, catalogue: Catalogue, classes: int = 5) -> tuple[Model, list[Step]]:
    """Return a recipe's model and the steps of its stages, with shapes and no values; what each stage freezes is checked."""
    source = text_source(recipe.text.options) if recipe.text is not None else TextSource()
    with torch.device("meta"):
        model = build_model(recipe, catalogue, source, seed=0)
        steps = [build_step(stage, catalogue, model, classes) for stage in recipe.stages]
    for stage in recipe.stages:
        model.freeze(stage.untrained(recipe.present()))()
    return model, steps
