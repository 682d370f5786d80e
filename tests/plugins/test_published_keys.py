"""Published key lists of MERL, ST-MEM, HeartLang and the reference encoders: in, out again, and refused elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

import melp_bench as mb
from melp_bench.published.fitting import fit, publish
from melp_plugins.ecg import heartlang, merl, ptbxl_reference, st_mem


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


KEY_LISTS = {
    "merl-resnet18": "merl_resnet18",
    "merl-resnet34": "merl_resnet34",
    "merl-resnet50": "merl_resnet50",
    "merl-vit-tiny": "merl_vit_tiny",
    "merl-vit-small": "merl_vit_small",
    "st-mem-small": "stmem_vit_small_encoder",
    "heartlang": "heartlang_encoder",
    "heartlang-finetuned": "heartlang_finetune",
    "heartlang-vqhbr": "heartlang_vqhbr",
    "xresnet1d101": "ptbxl_xresnet1d101",
    "inception1d": "ptbxl_inception1d",
}
LARGE = {
    "merl-resnet101": "merl_resnet101",
    "merl-vit-middle": "merl_vit_middle",
    "merl-vit-base": "merl_vit_base",
    "st-mem-base": "stmem_vit_base_encoder",
    "heartlang-all-leads": "heartlang_encoder",
}
MODULES = (merl, st_mem, heartlang, ptbxl_reference)
ENTRIES = {entry.name: entry for module in MODULES for entry in module.melp_ecg_encoders()}
needs_keys = pytest.mark.skipif("MELP_BENCH_PARITY" not in os.environ, reason="MELP_BENCH_PARITY names no folder of key lists")


def published_file(folder: str) -> dict[str, torch.Tensor]:
    """Return tensors under the published keys; keys that a folder says to be aliases repeat their originals."""
    root = Path(os.environ["MELP_BENCH_PARITY"]) / folder
    aliases = json.loads((root / "fixture.json").read_text()).get("aliases", {})
    made: dict[str, torch.Tensor] = {}
    for seed, (key, shape, dtype) in enumerate(json.loads((root / "state_dict.json").read_text())):
        kind = getattr(torch, dtype)
        fresh = noise(*shape, seed=seed).to(kind) if kind.is_floating_point else torch.full(shape, 3, dtype=kind)
        made[key] = made[aliases[key]] if key in aliases else fresh
    return made


def round_trip(name: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    entry = ENTRIES[name]
    assert entry.published is not None
    fitted = fit(tensors, entry.published, entry.build)
    return publish(fitted.module.state_dict(), fitted.aside, entry.published, fitted.layout)


@needs_keys
@pytest.mark.slow
@pytest.mark.parametrize("name", list(KEY_LISTS))
def test_a_published_file_goes_in_and_out_bit_for_bit(name: str) -> None:
    want = published_file(KEY_LISTS[name])
    files = {name: want}
    if name.startswith("merl"):
        files[f"{name}-encoder"] = {
            key.removeprefix("ecg_encoder."): tensor for key, tensor in want.items() if key.startswith("ecg_encoder.")
        }
    for family, tensors in files.items():
        got = round_trip(family, tensors)
        assert got.keys() == tensors.keys()
        assert all(torch.equal(got[key], tensor) for key, tensor in tensors.items())


@needs_keys
@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")
@pytest.mark.parametrize("name", list(LARGE))
def test_the_published_keys_of_a_large_size_go_in_and_out(name: str) -> None:
    rows = json.loads((Path(os.environ["MELP_BENCH_PARITY"]) / LARGE[name] / "state_dict.json").read_text())
    want = {key: torch.ones((), dtype=getattr(torch, dtype)).expand(shape) for key, shape, dtype in rows}
    entry = ENTRIES[name]
    assert entry.published is not None
    with torch.device("meta"):
        fitted = fit(want, entry.published, entry.build)
    got = publish(fitted.weights, fitted.aside, entry.published, fitted.layout)
    assert got.keys() == want.keys()
    assert all(got[key] is tensor for key, tensor in want.items())


@needs_keys
def test_the_weights_of_a_relative_are_refused_whole() -> None:
    tensors = published_file("merl_resnet18")
    for name in ("merl-resnet34", "merl-resnet50", "merl-vit-tiny", "heartlang", "xresnet1d101", "st-mem-small"):
        with pytest.raises(mb.UserError, match=name):
            round_trip(name, tensors)
