"""Blocks of xLSTM against numbers that the package `xlstm` gave for weights and tokens that are drawn here again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fill import rng

from melp_bench.published.fitting import fit
from melp_plugins.ecg.xecg import FAMILY, XECG

STORED = json.loads((Path(__file__).parent / "xlstm_package_outputs.json").read_text())


def drawn(name: str, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rng(STORED["salt"], name).standard_normal(size=shape))


@pytest.fixture(scope="module")
def outputs() -> list[torch.Tensor]:
    """Return what each block makes of the tokens, read forwards and backwards in turn."""
    width, heads, blocks = STORED["width"], STORED["heads"], STORED["blocks"]
    weights = {key: 0.3 * drawn(key, *shape) for key, shape in STORED["state_dict"].items()}
    weights["patch_embedding.conv.weight"] = torch.zeros(width, 12, 25, dtype=torch.float64)
    model = fit(weights, FAMILY, lambda: XECG(width=width, heads=heads, blocks=blocks).double()).module
    x, made = drawn("input", 2, STORED["tokens"], width), []
    with torch.no_grad():
        for place, block in enumerate(model.blocks):
            x = block(x.flip(1) if place else x)
            made.append(x)
    return made


def test_every_block_answers_as_the_package(outputs: list[torch.Tensor]) -> None:
    found = [float(made.square().sum()) for made in outputs]
    assert found == pytest.approx(STORED["sums"], rel=1e-9)
    for place, record, name in ((0, 0, "first_block"), (-1, 1, "last_block")):
        want = torch.tensor(STORED[name], dtype=torch.float64)
        torch.testing.assert_close(outputs[place][record, :, :6], want, rtol=0, atol=2e-9)
