"""`melp-bench import` and `export`: whole models with their text towers, graphs, and one clear line for a wrong file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from melp_bench.checkpoint import read_manifest
from melp_bench.cli import main
from melp_bench.embedding import prompt_encoder
from melp_bench.model import Model, widths_of
from melp_bench.plugins import discover
from melp_bench.progress import Silence
from melp_bench.published.folder import TextSide
from melp_bench.runs.building import load_model
from melp_bench.runs.candidates import Candidate, candidate
from melp_bench.runs.references import parse
from melp_bench.runs.training import make_fabric, obtain

CATALOGUE = discover()
WORDS = ["sinus", "rhythm", ".", "normal", "axis"]
LAYERS, WIDTH = 6, 32
SIZE = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": 64}
needs_keys = pytest.mark.skipif("MELP_BENCH_PARITY" not in os.environ, reason="MELP_BENCH_PARITY names no folder of key lists")
WHOLE = [
    pytest.param("merl-vit-tiny", "MERLModel_in_melp_repo_vit_tiny", 0, id="merl"),
    pytest.param("melp", "MELPModel_ecgfm_q13", 1, id="melp", marks=pytest.mark.slow),
]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def save_bert(folder: Path) -> Path:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(special + WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    BertModel(BertConfig(vocab_size=len(special + WORDS), max_position_embeddings=300, **SIZE)).save_pretrained(folder)
    return folder


def rows_of(name: str) -> list[tuple[str, list[int], str]]:
    return json.loads((Path(os.environ["MELP_BENCH_PARITY"]) / "melp_full_keys" / "state_dicts.json").read_text())[name]


def published(name: str, extra_words: int) -> dict[str, Tensor]:
    """Return tensors under the published keys, those of the text tower at the tiny size, the decoder's left small."""
    aliases = {
        "lm_model.cls.predictions.decoder.weight": "lm_model.bert.embeddings.word_embeddings.weight",
        "lm_model.cls.predictions.decoder.bias": "lm_model.cls.predictions.bias",
    }
    tiny = {768: WIDTH, 3072: 64, 30522: 10, 30523: 10 + extra_words, 512: 300}
    generator, made = torch.Generator().manual_seed(0), dict[str, Tensor]()
    for key, stated, dtype in rows_of(name):
        of_text = key.startswith(("lm_model.", "proj_t.", "sent_proj."))
        if any(f"encoder.layer.{n}." in key for n in range(LAYERS, 12)):
            continue
        shape = [tiny.get(n, n) for n in stated] if of_text else [4] if key.startswith("text_decoder.") else stated
        kind = getattr(torch, dtype)
        fresh = 0.05 * torch.randn(shape, generator=generator) if kind.is_floating_point else torch.ones(shape, dtype=kind)
        made[key] = made[aliases[key]] if key in aliases else fresh
    return made


@needs_keys
@pytest.mark.parametrize(("family", "keys", "extra_words"), WHOLE)
def test_a_whole_model_comes_with_its_text_tower_and_goes_back_bit_for_bit(
    family: str, keys: str, extra_words: int, tmp_path: Path
) -> None:
    tensors = published(keys, extra_words)
    torch.save({"state_dict": tensors}, tmp_path / "whole.ckpt")
    text, out = save_bert(tmp_path / "bert"), tmp_path / "ours"
    assert run("import", str(tmp_path / "whole.ckpt"), "--family", family, "--text", str(text), "--to", str(out)) == 0
    model, manifest = load_model(out, CATALOGUE)
    assert manifest.recipe.name == f"{family}@whole.ckpt"
    body = next(key for key in tensors if key.endswith("embeddings.LayerNorm.weight"))
    assert torch.equal(model.state_dict()["text_encoder.body.embeddings.LayerNorm.weight"], tensors[body])
    assert torch.equal(model.state_dict()["heads.report.2.weight"], tensors["proj_t.2.weight"])
    encode = prompt_encoder(model.eval(), torch.device("cpu"))
    assert encode is not None
    prompts = encode(["Sinus rhythm. Normal axis.", "axis"])
    assert prompts.shape == (2, 256)
    assert run("export", str(out), "--to", str(tmp_path / "back.safetensors")) == 0
    back = load_file(tmp_path / "back.safetensors")
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[key], tensor) for key, tensor in tensors.items())


@needs_keys
@pytest.mark.parametrize(("family", "keys", "extra_words"), WHOLE)
def test_the_published_text_towers_have_our_keys_and_shapes_at_full_size(family: str, keys: str, extra_words: int) -> None:
    entry = CATALOGUE.ecg_encoders[family]
    assert entry.published is not None
    assert entry.published.text is not None
    tower = entry.published.text.keys
    from melp_plugins.text.hugging_face import Frame, HuggingFaceText

    small = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    with torch.device("meta"):
        body = BertModel(BertConfig(vocab_size=30522 + extra_words), add_pooling_layer=family != "melp")
        text = HuggingFaceText(body, small, Frame((2,), (3,), 0), causal=False, max_tokens=8)
    encoder, parts = CATALOGUE.ecg_encoders["merl-vit-tiny"].build(), entry.published.text
    heads = CATALOGUE.heads[parts.heads].build(widths_of(encoder, text), **parts.head_options)
    side = TextSide(Model(encoder, text, heads))
    ours = {tower.published(k): list(t.shape) for k, t in side.state_dict().items() if tower.fresh_because(k) is None}
    rows = {key: shape for key, shape, _ in rows_of(keys) if key.startswith(("lm_model.", "proj_t.", "sent_proj."))}
    left = {key for key in rows if tower.unused_because(key) is None and tower.tied_to(key) is None}
    assert ours == {key: rows[key] for key in left}


@pytest.fixture
def tiny_file(tmp_path: Path) -> Path:
    """Return a published file of MERL's smallest transformer."""
    torch.manual_seed(0)
    encoder = CATALOGUE.ecg_encoders["merl-vit-tiny"].build()
    torch.save(encoder.state_dict(), tmp_path / "vit_tiny_ckpt.pth")
    return tmp_path / "vit_tiny_ckpt.pth"


def test_encoder_at_file_is_imported_once_and_is_a_method(tiny_file: Path, tmp_path: Path) -> None:
    asked = {"settings": {}, "pretrain": None, "stores": {}, "checkpoints": tmp_path / "kept"}

    def named(text: str) -> Candidate:
        return candidate(parse(text, CATALOGUE), CATALOGUE, **asked)  # type: ignore[arg-type]

    def obtained(found: Candidate) -> float:
        obtain(found, CATALOGUE, None, None, make_fabric("cpu", "32"), Silence())
        return (found.folder / "model.safetensors").stat().st_mtime_ns

    found = named(f"merl-vit-tiny@{tiny_file}")
    assert found.label == "merl-vit-tiny@vit_tiny_ckpt.pth"
    assert not (tmp_path / "kept").exists()  # to name a model is not to import it
    stamp = obtained(found)
    again = named(f"merl-vit-tiny@{tiny_file}")
    assert (again.label, again.identity, again.folder) == (found.label, found.identity, found.folder)
    assert named(str(found.folder)).identity == found.identity
    assert obtained(again) == stamp
    assert read_manifest(found.folder).corpora == ["mimic-iv-ecg"]


def test_a_graph_answers_as_the_encoder_does(tiny_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
    from melp_bench.published.onnx import silent_onnxruntime

    out, graph = tmp_path / "ours", tmp_path / "vit.onnx"
    assert run("import", str(tiny_file), "--family", "merl-vit-tiny", "--to", str(out)) == 0
    assert run("export", str(out), "--to", str(graph), "--format", "onnx") == 0
    session = silent_onnxruntime().InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    model, _ = load_model(out, CATALOGUE)
    signal = torch.rand(5, 12, 5000)
    with torch.no_grad():
        want = model.encoder.eval()(signal)
    embedding, record = session.run(["embedding", "record"], {"signal": signal.numpy()})
    torch.testing.assert_close(torch.from_numpy(embedding), want.embedding, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(torch.from_numpy(record), want.record, rtol=1e-3, atol=1e-4)


class Odd:
    """A class that a pickle may name."""


@pytest.mark.parametrize("kind", ["relative", "truncated", "class", "text", "absent", "family", "tower"])
def test_a_wrong_file_gives_one_line_and_no_folder(
    kind: str, tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out, family, more = tmp_path / "wrong.pth", tmp_path / "ours", "merl-vit-tiny", []
    if kind == "relative":
        torch.save({"layer1.0.conv1.weight": torch.ones(2)}, path)
    elif kind == "truncated":
        path.write_bytes(tiny_file.read_bytes()[:9000])
    elif kind == "class":
        torch.save({"model": torch.load(tiny_file), "config": Odd()}, path)
    elif kind == "text":
        path.write_text("404 not found")
    elif kind in ("family", "tower"):
        path = tiny_file
        family = "merl-vit-tinny" if kind == "family" else "st-mem-small"
        more = ["--text", "bert"] if kind == "tower" else []
    assert run("import", str(path), "--family", family, "--to", str(out), *more) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith("melp-bench: ")
    assert not out.exists()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".tmp")] == []
