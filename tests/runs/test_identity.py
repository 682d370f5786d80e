"""What weights depend on beside recipe and seed: files from elsewhere, the precision that auto comes to, and code."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch

import melp_bench as mb
from melp_bench.plugins import discover
from melp_bench.progress import Silence
from melp_bench.protocol import DatasetUse, Pretrain
from melp_bench.published.hub import model_files
from melp_bench.runs import stores, training
from melp_bench.runs.stores import open_one
from melp_bench.runs.training import as_resolved
from melp_plugins.ecg import timm_image


def text_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json", "README.md", "pytorch_model.bin"):
        (folder / name).write_text(f"{name} of a model")
    return folder


def test_a_local_text_model_is_known_by_its_files_and_not_by_its_place(tmp_path: Path) -> None:
    one = text_folder(tmp_path / "one")
    hf = discover().text_encoders["hf"]
    first = hf.read_digests({"model": str(one)})
    assert set(first) == {"config.json", "model.safetensors", "tokenizer.json"}
    assert hf.read_digests({"model": str(shutil.copytree(one, tmp_path / "two"))}) == first
    (one / "README.md").write_text("another word")
    assert hf.read_digests({"model": str(one)}) == first
    (one / "model.safetensors").write_text("other weights")
    assert hf.read_digests({"model": str(one)}) != first


def test_a_file_of_the_hubs_cache_is_known_by_its_blob(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "abc").write_text("{}")
    snapshot = tmp_path / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").symlink_to("../../blobs/abc")
    assert model_files(str(snapshot)) == {"config.json": "abc"}


def test_pretrained_weights_of_timm_are_known_by_what_was_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    entry, made = discover().ecg_encoders["timm-image"], timm.create_model
    assert entry.read_digests({}) == {}

    def digest(value: float) -> dict[str, str]:
        def create(model: str, *, pretrained: bool, **options: object) -> torch.nn.Module:
            network: torch.nn.Module = made(model, pretrained=False, **options)
            if pretrained:
                torch.nn.init.constant_(next(network.parameters()), value)
            return network

        timm_image._weights_digest.cache_clear()
        monkeypatch.setattr(timm, "create_model", create)
        return entry.read_digests({"pretrained": True})

    assert digest(1.0) == digest(1.0) != digest(2.0)
    timm_image._weights_digest.cache_clear()


def test_an_entry_that_reads_nothing_says_so() -> None:
    entry = mb.Entry("one", lambda *, width=3: width, "")
    assert entry.read_digests({"width": 4}) == {}
    assert replace(entry, reads=lambda *, width: {"weights": str(width)}).read_digests({}) == {"weights": "3"}


@pytest.mark.parametrize(
    ("asked", "device", "half", "comes_to"),
    [
        ("auto", "cpu", True, "32"),
        ("auto", "cuda", True, "bf16"),
        ("auto", "cuda", False, "32"),
        ("bf16", "cpu", False, "bf16"),
    ],
)
def test_auto_is_what_it_comes_to(monkeypatch: pytest.MonkeyPatch, asked: str, device: str, half: bool, comes_to: str) -> None:
    monkeypatch.setattr(training, "choose_device", lambda _: device)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: half)
    budget = Pretrain.model_validate({"dataset": "synthetic", "steps": 2, "batch_size": 2, "precision": asked})
    assert as_resolved(budget, "auto").precision == comes_to


def test_a_generated_dataset_whose_code_changed_is_made_again_and_a_prepared_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path))
    entry, use = discover().datasets["synthetic"], DatasetUse(dataset="synthetic", options={"num_records": 16})
    first, code = open_one(entry, use, Silence(), 1), stores.code_digest(entry)
    assert first.manifest.code == code
    made: list[str] = []
    whole = stores.prepare
    monkeypatch.setattr(stores, "prepare", lambda *args, **more: made.append(more["code"]) or whole(*args, **more))
    assert open_one(entry, use, Silence(), 1).fingerprint == first.fingerprint
    assert made == []
    monkeypatch.setattr(stores, "code_digest", lambda _: "other")
    again = open_one(entry, use, Silence(), 1)
    assert made == ["other"] == [again.manifest.code]
    assert again.fingerprint == first.fingerprint, "the records are the same, and so are the rows that are of them"
