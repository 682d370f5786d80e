"""ECG-CPC's Lightning checkpoint and HuBERT-ECG's files: what is read off them, what is not used and why, and the way back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from melp_bench.plugins import discover
from melp_bench.published.export import export_checkpoint
from melp_bench.published.fitting import KeyLayout, fit, publish
from melp_bench.published.folder import import_checkpoint
from melp_bench.runs.building import load_model
from melp_plugins.ecg import ecg_cpc, hubert_ecg

CATALOGUE = discover()


def test_cpcs_tables_are_kept_aside_and_its_head_is_left(tmp_path: Path) -> None:
    torch.manual_seed(0)
    own = ecg_cpc.ECGCPC().state_dict()
    prefix = "ts_encoder.models.0."
    tensors = publish(own, {}, ecg_cpc.FAMILY, KeyLayout(prefix))
    kernel = f"{prefix}predictor.predictor.s4_layers.{{}}.kernel.kernel."
    tables = {f"{kernel.format(n)}{name}": torch.full((601, 2), float(n)) for n in range(4) for name in ("omega", "z")}
    head = {"head_ssl.0.weight": torch.ones(3)}
    torch.save({"state_dict": tensors | tables | head, "epoch": 4}, tmp_path / "cpc.ckpt")
    entry = CATALOGUE.ecg_encoders["ecg-cpc"]
    made = import_checkpoint(str(tmp_path / "cpc.ckpt"), entry, tmp_path / "ours")
    assert made.unused.keys() == tables.keys() | head.keys()
    assert "kernel's length" in made.unused[next(iter(tables))]
    assert "pretraining's head" in made.unused["head_ssl.0.weight"]
    model, _ = load_model(tmp_path / "ours", CATALOGUE)
    assert all(torch.equal(model.encoder.state_dict()[key], tensor) for key, tensor in own.items())
    export_checkpoint(tmp_path / "ours", entry, tmp_path / "back.safetensors")
    back = load_file(tmp_path / "back.safetensors")
    assert back.keys() == tensors.keys() | tables.keys()
    assert all(torch.equal(back[key], tensor) for key, tensor in (tensors | tables).items())


def published(size: str, codebooks: tuple[int, ...]) -> dict[str, Tensor]:
    """Return a file's tensors, each one number that is seen at every place of its shape."""
    with torch.device("meta"):
        own = hubert_ecg.HuBERTECG(size=size, codebooks=codebooks).state_dict()
    ours = {key: torch.full((), 0.5, device="cpu").expand(tensor.shape) for key, tensor in own.items()}
    return publish(ours, {}, hubert_ecg.FAMILY, KeyLayout())


@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")
@pytest.mark.parametrize("old", [False, True], ids=["new weight norm", "old weight norm"])
@pytest.mark.parametrize(("size", "codebooks"), [("small", (500,)), ("base", ()), ("large", (100, 200))])
def test_huberts_size_and_codebooks_are_read_off_the_file(size: str, codebooks: tuple[int, ...], old: bool) -> None:
    tensors = published(size, codebooks)
    if old:
        spelt = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
        for new, name in spelt.items():
            tensors = {key.replace(new, name): tensor for key, tensor in tensors.items()}
    tensors = {f"hubert_ecg.{key}": tensor for key, tensor in tensors.items()} | {"classifier.weight": torch.ones(2, 2)}
    with torch.device("meta"):
        fitted = fit(tensors, hubert_ecg.FAMILY, hubert_ecg.HuBERTECG)
    assert fitted.options == {"size": size, "codebooks": codebooks}
    assert fitted.unused == {"classifier.weight": "belongs to the classifier of a fine-tuned model, which features do not read"}
    back = publish(fitted.weights, fitted.aside, hubert_ecg.FAMILY, fitted.layout)
    assert back.keys() == tensors.keys() - {"classifier.weight"}
