"""ECGFounder's and both ECG-JEPA's files through a checkpoint folder: every key back, bit for bit, and in again the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from melp_bench.checkpoint import read_manifest
from melp_bench.errors import UserError
from melp_bench.plugins import discover
from melp_bench.published.export import export_checkpoint
from melp_bench.published.folder import import_checkpoint

ENTRIES = discover().ecg_encoders
MODEL = "model.safetensors"


def published(name: str, seed: int = 0, **options: int) -> dict[str, Tensor]:
    """Return tensors, all different, under the published keys of an encoder that names its parameters as they are published."""
    with torch.device("meta"):
        own = ENTRIES[name].build(**options).state_dict()
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.randn(tensor.shape, generator=generator) for key, tensor in own.items()}


def go_and_return(payload: object, name: str, folder: Path, part: str = "") -> dict[str, Tensor]:
    """Import a file, export it, import that, and return what was exported; both checkpoints hold the same weights."""
    torch.save(payload, folder / "f.pth")
    import_checkpoint(f"{folder / 'f.pth'}{part}", ENTRIES[name], folder / "first")
    export_checkpoint(folder / "first", ENTRIES[name], folder / "back.safetensors")
    import_checkpoint(str(folder / "back.safetensors"), ENTRIES[name], folder / "second")
    assert (folder / "first" / MODEL).read_bytes() == (folder / "second" / MODEL).read_bytes()
    return load_file(folder / "back.safetensors")


def assert_equal(got: Mapping[str, Tensor], want: Mapping[str, Tensor]) -> None:
    assert got.keys() == want.keys()
    assert all(got[key].dtype == tensor.dtype and torch.equal(got[key], tensor) for key, tensor in want.items())


@pytest.mark.slow
def test_ecgfounder_keeps_the_batch_norms_that_it_never_runs_and_says_so(tmp_path: Path) -> None:
    norms = {f"stage_list.3.block_list.0.bn2.{name}": torch.ones(400) for name in ("weight", "bias", "running_mean")}
    want = published("ecgfounder") | norms | {"first_bn.num_batches_tracked": torch.tensor(7)}
    half = {key: tensor.bfloat16() if tensor.is_floating_point() else tensor for key, tensor in want.items()}
    assert_equal(go_and_return({"state_dict": half, "epoch": 3, "auroc": np.ones(150)}, "ecgfounder", tmp_path), half)
    spelling = json.loads((tmp_path / "first" / "published.json").read_text())
    assert set(spelling["unused"]) == {*norms, "first_bn.num_batches_tracked"}
    assert all("never runs" in reason for reason in spelling["unused"].values())
    assert read_manifest(tmp_path / "first").corpora == ["heedb"]


def test_kims_context_encoder_comes_out_of_its_file_and_out_of_a_whole_pretraining(tmp_path: Path) -> None:
    want = published("ecg-jepa", depth=1, width=48)
    (tmp_path / "alone").mkdir()
    assert_equal(go_and_return({"encoder": want, "epoch": 99}, "ecg-jepa", tmp_path / "alone"), want)
    target = {f"target_encoder.{key}": tensor for key, tensor in published("ecg-jepa", 1, depth=1, width=48).items()}
    whole = {f"encoder.{key}": tensor for key, tensor in want.items()} | target | {"predictor.mask_token": torch.zeros(1, 1, 4)}
    got = go_and_return(whole, "ecg-jepa", tmp_path)
    assert_equal(got, {f"encoder.{key}": tensor for key, tensor in want.items()})
    options = read_manifest(tmp_path / "first").recipe.encoder.options
    assert (options["depth"], options["width"]) == (1, 48)


def test_weimanns_target_is_read_out_of_a_pretraining_and_not_the_encoder_that_it_follows(tmp_path: Path) -> None:
    name = "ecg-jepa-weimann-xs"
    slow, fast = (published(name, seed, depth=1) for seed in (1, 2))
    whole = {f"module._orig_mod.encoder.{key}": tensor for key, tensor in fast.items()}
    whole |= {f"module._orig_mod.target_encoder.{key}": tensor for key, tensor in slow.items()}
    got = go_and_return({"model": whole, "config": {"dim": 192}, "step": 5}, name, tmp_path)
    assert_equal(got, {key: tensor for key, tensor in whole.items() if ".target_encoder." in key})


def test_an_average_beside_the_weights_is_a_checkpoint_of_its_own(tmp_path: Path) -> None:
    one, two = (published("ecg-jepa", seed, depth=1, width=48) for seed in (1, 2))
    payload = {"model": one, "model_ema": two}
    with pytest.raises(UserError, match=r"holds 'ecg-jepa' weights 2 times; choose: .*f\.pth#model or .*f\.pth#model_ema"):
        go_and_return(payload, "ecg-jepa", tmp_path)
    assert_equal(go_and_return(payload, "ecg-jepa", tmp_path, "#model_ema"), two)
    assert read_manifest(tmp_path / "first").recipe.name == "ecg-jepa@f.pth#model_ema"
    with pytest.raises(UserError, match="already holds another checkpoint"):
        import_checkpoint(f"{tmp_path / 'f.pth'}#model", ENTRIES["ecg-jepa"], tmp_path / "first")
