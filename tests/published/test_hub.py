"""Models of transformers come in silence, whole, or with one line that says why not."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, BertConfig, BertModel
from transformers.utils import logging as told

from melp_bench.errors import UserError
from melp_bench.published.hub import loading, missing_weights, quiet

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


@pytest.fixture
def folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Path:
    with quiet():
        BertModel(BertConfig(vocab_size=20, **SIZES)).save_pretrained(tmp_path / "bert")
    assert "".join(capfd.readouterr()) == ""
    return tmp_path / "bert"


def load(folder: Path) -> list[str]:
    with loading(str(folder)) as where:
        body, found = AutoModelForMaskedLM.from_pretrained(where, output_loading_info=True)
    return missing_weights(str(folder), body, found)


def test_a_missing_head_is_returned_and_nothing_is_printed(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    missing = load(folder)
    assert missing
    assert all(key.startswith("cls.predictions.") for key in missing)
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.parametrize("left_out", ["encoder.layer.1.output.dense.weight", "embeddings.word_embeddings.weight"])
def test_a_body_without_a_weight_is_refused_by_its_name(folder: Path, left_out: str) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights[left_out]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=left_out) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 5, 2000])
def test_damaged_weights_are_one_line(folder: Path, kept: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match="cannot load the text model") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_a_weight_of_another_shape_is_one_line(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"intermediate_size": 64', '"intermediate_size": 65'))
    with pytest.raises(UserError, match="cannot load the text model") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_what_transformers_prints_is_left_as_it_was(folder: Path) -> None:
    def fails() -> None:
        with loading(str(folder)):
            assert told.get_verbosity() == logging.ERROR
            assert not told.is_progress_bar_enabled()
            raise RuntimeError("out of luck")

    before = told.get_verbosity(), told.is_progress_bar_enabled()
    with pytest.raises(UserError, match="out of luck"):
        fails()
    assert (told.get_verbosity(), told.is_progress_bar_enabled()) == before
