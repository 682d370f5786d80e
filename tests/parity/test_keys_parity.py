"""Every published key list of the parity sets: one of our families takes it, and gives it back key by key.

Nothing here is as large as a model: each tensor is one number, seen at every place of its shape, and modules are built on the
meta device.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import adapters_ked
import pytest
import torch
from parity_folders import NONE, folders_with
from torch import Tensor, nn

from melp_bench.errors import UserError
from melp_bench.plugins import discover
from melp_bench.published.family import Family
from melp_bench.published.fitting import fit, publish
from melp_plugins.text import melp_decoder

FOLDERS = folders_with("*")
if not FOLDERS:
    pytest.skip(f"{NONE} of fixtures", allow_module_level=True)
CATALOGUE = discover()
FAMILIES: list[tuple[Family, Callable[..., nn.Module]]] = [
    *((entry.published, entry.build) for entry in CATALOGUE.ecg_encoders if entry.published is not None),
    *((entry.published, entry.build) for entry in CATALOGUE.text_encoders if entry.published is not None),
    (melp_decoder.FAMILY, melp_decoder.MELPDecoder),
    (adapters_ked.TEXT_PART, adapters_ked.TextPart),
    (adapters_ked.DECODER_PART, adapters_ked.DecoderPart),
]
READ = ("fixture.json", "losses.npz", "expected.json", "state_dicts.json")
"""One of these is in every folder that some test reads: a model's outputs, losses, metrics, or keys alone."""
NOT_OURS = {"MELP_CustomResNet18"}  # an ablation of MELP's authors, of which nothing was published


def one_number(index: int, shape: list[int], dtype: str) -> Tensor:
    """Return a tensor of one number, another one for every index; counts of batches are all 1."""
    kind = getattr(torch, dtype)
    return torch.full((), index if kind.is_floating_point else 1, dtype=kind).expand(shape)


def same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a[(0,) * a.ndim] == b[(0,) * b.ndim]


def key_lists() -> dict[str, dict[str, Tensor]]:
    """Return the published tensors by the name of their list."""
    found = {}
    for path in [path for folder in FOLDERS for path in sorted(folder.glob("state_dict*.json"))]:
        content = json.loads(path.read_text())
        lists = {path.stem: content} if isinstance(content, list) else content
        aliases = {a: b for name, pairs in lists.items() if name.startswith("aliases") for a, b in pairs.items()}
        if path.name == "state_dict.json":
            aliases |= json.loads((path.parent / "fixture.json").read_text()).get("aliases", {})
        for name, rows in lists.items():
            if not name.startswith("aliases"):
                rows = rows["state_dict"] if isinstance(rows, dict) else rows
                made = {key: one_number(index, shape, dtype) for index, (key, shape, dtype) in enumerate(rows)}
                found[f"{path.parent.name}/{name}"] = made | {a: made[b] for a, b in aliases.items() if a in made}
    return found


LISTS = key_lists()


@pytest.mark.parametrize("folder", FOLDERS, ids=[folder.name for folder in FOLDERS])
def test_some_test_reads_every_folder(folder: Path) -> None:
    assert any((folder / name).is_file() for name in READ), f"no test reads {folder.name!r}: it holds none of {READ}"


@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")
@pytest.mark.parametrize("name", list(LISTS))
def test_a_family_takes_the_published_keys_and_gives_them_back(name: str) -> None:
    tensors, taken, refused = LISTS[name], [], []
    for family, build in FAMILIES:
        try:
            with torch.device("meta"):
                fitted = fit(tensors, family, build, name)
        except UserError as error:
            refused.append(str(error))
            continue
        taken.append(family.name)
        back = publish(fitted.weights, fitted.aside, family, fitted.layout)
        whole = family.keeps_elsewhere
        assert back.keys() == {key for key in tensors if whole or key.startswith(fitted.layout.prefix)}
        assert all(same(back[key], tensors[key]) for key in back)
    assert bool(taken) != (name.partition("/")[2] in NOT_OURS), "\n".join(refused)
