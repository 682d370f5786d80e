"""KED's file, which nests three state dicts: each key of it is used or accounted for, and a file without them is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from melp_bench.components import TextSource
from melp_bench.errors import UserError
from melp_bench.model import Model, widths_of
from melp_bench.plugins import discover
from melp_bench.published.export import export_checkpoint
from melp_bench.published.fitting import KeyLayout, publish
from melp_bench.published.folder import Imported, Text, import_checkpoint
from melp_bench.runs.building import load_model
from melp_plugins.ecg.ked import FAMILY, KED, TEXT
from melp_plugins.text.hugging_face import hugging_face

CATALOGUE = discover()
SMALL = {"depth": 1, "heads": 4, "hidden": 16}  # the decoder has 7 layers of 1,024 as published
TOWER = replace(TEXT, head_options=SMALL, options={"pooler": True, "max_tokens": 64})
ENTRY = replace(CATALOGUE.ecg_encoders["ked"], published=replace(FAMILY, text=TOWER))
PARTS = ("ecg_model", "text_encoder", "model")
WORDS = ["atrial", "fibrillation", "normal", "."]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(special + WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    size: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=9, max_position_embeddings=64, **size)).save_pretrained(folder)
    return folder


def text_of(bert: Path) -> Text:
    return Text(CATALOGUE.text_encoders["hf"], str(bert), CATALOGUE.heads["ked"])


@pytest.fixture(scope="module")
def nested(bert: Path) -> dict[str, dict[str, Tensor]]:
    """Return a published file's three state dicts, all tensors different."""
    torch.manual_seed(0)
    encoder = KED()
    text = hugging_face(TextSource(), model=str(bert), pooler=True, max_tokens=64)
    whole = Model(encoder, text, CATALOGUE.heads["ked"].build(widths_of(encoder, text), **SMALL))
    for tensor in whole.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(0.05 * torch.randn_like(tensor)).abs_()  # a batch norm's variance is positive
    side = {key: t for key, t in whole.state_dict().items() if not key.startswith("encoder.")}
    flat = publish(encoder.state_dict(), {}, FAMILY, KeyLayout("ecg_model.")) | publish(side, {}, TEXT.keys, KeyLayout())
    made = {part: {k.removeprefix(f"{part}."): t for k, t in flat.items() if k.startswith(f"{part}.")} for part in PARTS}
    assert sum(map(len, made.values())) == len(flat)
    made["text_encoder"] |= {
        "logit_scale": torch.tensor(2.66),
        "bert_model.embeddings.position_ids": torch.arange(64)[None],
    }
    made["model"] |= {"logit_scale": torch.tensor(2.66)}
    return made


def save(path: Path, nested: dict[str, dict[str, Tensor]]) -> Path:
    """Write it as the authors' training code does."""
    optimizer = {
        "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}},
        "param_groups": [{"lr": 1e-4, "params": [0]}],
    }
    rest = {"optimizer": optimizer, "lr_scheduler": {"last_epoch": 3}, "config": {"tqn_model_layers": 7}, "epoch": 3}
    torch.save(nested | rest, path)
    return path


def accounted(made: Imported, nested: dict[str, dict[str, Tensor]]) -> None:
    """Check that each key of the three parts is used, or not used for a reason."""
    every = {f"{part}.{key}" for part, inner in nested.items() for key in inner}
    used = {f"{made.encoder.layout.prefix}{FAMILY.published(key)}" for key in made.encoder.weights}
    used |= {TEXT.keys.published(key) for key in (made.text.weights if made.text else {})}
    assert used | made.unused.keys() == every
    assert not used & made.unused.keys()
    assert all(made.unused.values())


def test_every_key_of_the_nested_file_is_used_or_has_a_reason(nested: Any, bert: Path, tmp_path: Path) -> None:
    file = save(tmp_path / "best_valid.pt", nested)
    made = import_checkpoint(str(file), ENTRY, tmp_path / "ours", text_of(bert))
    accounted(made, nested)
    assert all("repeats" in made.unused[f"ecg_model.{key}"] for key in nested["ecg_model"] if ".convpath." in key)
    left = {key for key, why in made.unused.items() if "repeats" not in why}
    assert left == {"text_encoder.logit_scale", "text_encoder.bert_model.embeddings.position_ids", "model.logit_scale"}
    model, manifest = load_model(tmp_path / "ours", CATALOGUE)
    assert manifest.recipe.heads is not None
    assert manifest.recipe.heads.name == "ked"
    for part, inner in nested.items():
        for key, tensor in inner.items():
            ours = f"encoder.{FAMILY.ours(key)}" if part == "ecg_model" else TEXT.keys.ours(f"{part}.{key}") or ""
            if f"{part}.{key}" not in made.unused:
                assert torch.equal(model.state_dict()[ours], tensor), (part, key)


def test_it_goes_back_bit_for_bit_and_comes_again(nested: Any, bert: Path, tmp_path: Path) -> None:
    file = save(tmp_path / "best_valid.pt", nested)
    import_checkpoint(str(file), ENTRY, tmp_path / "ours", text_of(bert))
    export_checkpoint(tmp_path / "ours", ENTRY, tmp_path / "back.safetensors")
    back = load_file(tmp_path / "back.safetensors")
    want = {f"{part}.{key}": tensor for part, inner in nested.items() for key, tensor in inner.items()}
    assert back.keys() == want.keys()
    assert all(torch.equal(back[key], tensor) for key, tensor in want.items())
    import_checkpoint(str(tmp_path / "back.safetensors"), ENTRY, tmp_path / "again", text_of(bert))
    one, two = (load_model(tmp_path / name, CATALOGUE)[0].state_dict() for name in ("ours", "again"))
    assert all(torch.equal(one[key], two[key]) for key in one)


SPELT: dict[str, Callable[[dict[str, dict[str, Tensor]]], dict[str, Any]]] = {
    "nested": lambda nested: nested,
    "the encoder alone, nested": lambda nested: {"ecg_model": nested["ecg_model"]},
    "flat with the part's name": lambda nested: {f"ecg_model.{key}": tensor for key, tensor in nested["ecg_model"].items()},
    "bare": lambda nested: nested["ecg_model"],
}


@pytest.mark.parametrize("spelt", SPELT)
def test_the_encoder_is_found_however_its_keys_are_spelt(nested: Any, spelt: str, tmp_path: Path) -> None:
    torch.save(SPELT[spelt](nested), tmp_path / "ked.pt")
    made = import_checkpoint(str(tmp_path / "ked.pt"), ENTRY, tmp_path / "ours")
    state = made.encoder.module.state_dict()
    repeated = [key for key in nested["ecg_model"] if ".convpath." in key]
    assert len(state) == len(nested["ecg_model"]) - len(repeated)
    assert all(torch.equal(state[FAMILY.ours(k)], t) for k, t in nested["ecg_model"].items() if k not in repeated)


@pytest.mark.parametrize(("name", "why"), [("ecg_encoder", "no 'ked' weights"), ("student", "no key")])
def test_a_file_without_a_matching_key_is_refused_with_what_was_found_and_what_was_wanted(
    nested: Any, name: str, why: str, tmp_path: Path
) -> None:
    renamed = {f"backbone.{key}": tensor for key, tensor in nested["ecg_model"].items()}
    torch.save({"model": nested["model"], name: renamed}, tmp_path / "ked.pt")
    with pytest.raises(UserError) as told:
        import_checkpoint(str(tmp_path / "ked.pt"), ENTRY, tmp_path / "ours")
    said = str(told.value)
    assert why in said
    assert FAMILY.anchor in said  # wanted
    assert "'model" in said  # found
    assert "\n" not in said
    assert not (tmp_path / "ours").exists()
