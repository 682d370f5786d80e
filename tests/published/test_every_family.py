"""Every family that an installed plugin publishes: its own file goes in and out, and a wrong one is one line and no folder.

Files are as wide as the published ones and cost nothing: each tensor is one number, seen at every place of its shape; and
modules are built on the meta device, so that a load which a check should have prevented fails, too.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from melp_bench.board.leakage import collections
from melp_bench.cli import main
from melp_bench.errors import UserError
from melp_bench.plugins import discover
from melp_bench.published.fitting import COUNT, KeyLayout, fit, publish
from melp_bench.published.parts import part_of
from melp_bench.published.tensor_files import Published, read_published

CATALOGUE = discover()
ENTRIES = {entry.name: entry for entry in CATALOGUE.ecg_encoders if entry.published is not None}
NAMES = list(ENTRIES)
KINDS = list({(entry.plugin, entry.published.anchor): entry.name for entry in ENTRIES.values() if entry.published}.values())
"""One of the entries that differ by a size, or by how they are fed."""


DTYPES = {"integers": torch.int64, "booleans": torch.bool, "complex": torch.complex64, "eight bits": torch.float8_e4m3fn}


class Odd:
    """A class that a pickle may name."""


@cache
def published(name: str) -> dict[str, Tensor]:
    """Return the tensors of a published file, every one a view of its own number."""
    entry = ENTRIES[name]
    family = entry.published
    assert family is not None
    with torch.device("meta"):
        own = entry.build(**entry.resolve({})).state_dict()
    ours = {key: tensor for key, tensor in own.items() if family.fresh_because(key) is None}
    keys = publish(ours, {}, family, KeyLayout(family.prefixes[0]))
    made: dict[int, Tensor] = {}
    for key, tensor in keys.items():  # tied keys repeat a tensor
        made.setdefault(id(tensor), torch.full((), 0.5, dtype=keys[key].dtype, device="cpu").expand(tensor.shape))
    return {key: made[id(tensor)] for key, tensor in keys.items()}


def shapes(name: str) -> dict[str, torch.Size]:
    return {key: tensor.shape for key, tensor in published(name).items()}


def float_key(tensors: dict[str, Tensor]) -> str:
    """Return the key of a matrix of weights from the middle of the model, which no other key repeats."""
    once = [id(tensor) for tensor in tensors.values()]
    found = [k for k, t in tensors.items() if t.is_floating_point() and t.ndim > 1 and once.count(id(t)) == 1]
    return found[len(found) // 2]


def with_nan(tensor: Tensor) -> Tensor:
    whole = tensor.clone()
    whole.view(-1)[-1] = torch.nan
    return whole


def wrong_content(kind: str, name: str) -> bytes:
    """Return the bytes of a wrong file for a family."""
    tensors: dict[str, object] = dict(published(name))
    key = float_key(published(name))
    if kind == "empty":
        return b""
    if kind == "text":
        return b"<html>404 not found</html>\n"
    if kind == "class":
        tensors["config"] = Odd()
    if kind == "missing":
        del tensors[key]
    if kind == "unknown":
        tensors[f"{key}_of_another_model"] = torch.ones(2)
    if kind == "misshapen":
        tensors[key] = torch.ones(*published(name)[key].shape, 2)
    if kind == "flattened":
        tensors |= {key: tensor[(0,) * tensor.ndim] for key, tensor in published(name).items()}
    if kind == "nan":
        tensors[key] = with_nan(published(name)[key])
    if kind in DTYPES:
        tensors[key] = published(name)[key].clone().to(DTYPES[kind])
    if kind == "valueless":
        tensors[key] = torch.empty(published(name)[key].shape, device="meta")
    content = io.BytesIO()
    torch.save({"state_dict": tensors} if kind == "missing" else tensors, content)
    return content.getvalue()[: len(content.getvalue()) // 2 if kind == "truncated" else None]


def run_import(file: Path, name: str, out: Path) -> int:
    with pytest.raises(SystemExit) as ended, torch.device("meta"):
        main(["import", str(file), "--family", name, "--to", str(out)])
    return int(ended.value.code or 0)


SAYS = {
    "empty": "empty file",
    "text": "text file",
    "class": "Odd",
    "truncated": "damaged",
    "directory": "no checkpoint file",
    "missing": "nothing was loaded",
    "unknown": "_of_another_model",
    "misshapen": "has shape",
    "flattened": "shape",
    "nan": "not finite",
    "valueless": "without values",
    **{kind: str(dtype) for kind, dtype in DTYPES.items()},
}


@pytest.mark.parametrize("name", KINDS)
def test_a_wrong_file_is_one_line_and_no_folder(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, says in SAYS.items():
        file = tmp_path / f"{kind}.pth"
        file.mkdir() if kind == "directory" else file.write_bytes(wrong_content(kind, name))
        assert run_import(file, name, tmp_path / "ours") == 2, kind
        told = capsys.readouterr()
        lines = told.err.strip().splitlines()
        assert len(lines) == 1, (kind, lines)
        assert lines[0].startswith("melp-bench: ")
        assert says in lines[0], (kind, lines)
        assert str(file) in lines[0]
        assert told.out == ""
    assert {path.name for path in tmp_path.iterdir()} == {f"{kind}.pth" for kind in SAYS}


@pytest.mark.parametrize("name", NAMES)
def test_another_familys_weights_are_refused(name: str) -> None:
    entry = ENTRIES[name]
    assert entry.published is not None
    for other in NAMES:
        if shapes(other) == shapes(name):  # one published file, and several ways to feed it, to cut a record, or to probe it
            continue
        with pytest.raises(UserError, match=repr(entry.published.name)) as caught, torch.device("meta"):
            fit(published(other), entry.published, entry.build, f"{other}.pth")
        assert "\n" not in str(caught.value), other


@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")
@pytest.mark.parametrize("spelling", [str, lambda key: f"module._orig_mod.{key}"], ids=["bare", "wrapped"])
@pytest.mark.parametrize("name", NAMES)
def test_a_familys_own_file_goes_in_and_out_key_by_key(name: str, spelling: Callable[[str], str]) -> None:
    family, tensors = ENTRIES[name].published, {spelling(key): tensor for key, tensor in published(name).items()}
    assert family is not None
    with torch.device("meta"):
        fitted = fit(tensors, family, ENTRIES[name].build)
    back = publish(fitted.weights, fitted.aside, family, fitted.layout)
    assert back.keys() == tensors.keys()
    assert all(back[key] is tensor for key, tensor in tensors.items())
    assert len(fitted.weights) + len(fitted.unused) == len(tensors)


@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")
@pytest.mark.parametrize("name", NAMES)
def test_a_familys_file_is_read_nested_halved_and_without_counts_of_batches(name: str, tmp_path: Path) -> None:
    family, whole = ENTRIES[name].published, published(name)
    assert family is not None
    counted = {key: tensor for key, tensor in whole.items() if key.rpartition(".")[2] != COUNT}
    halved = {key: tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor for key, tensor in counted.items()}
    beside = {"optimizer": {"state": {}, "moments": {"a": torch.ones(1)}}, "history": np.zeros(3)}
    torch.save({"checkpoint": {"weights": halved, "epoch": 3}, **beside}, tmp_path / "f.ckpt")
    part = part_of(read_published(str(tmp_path / "f.ckpt")), family)
    assert part.name == "checkpoint.weights"
    assert list(part.beside) == ["optimizer.moments.a"]
    with torch.device("meta"):
        fitted = fit(part.tensors, family, ENTRIES[name].build)
    back = publish(fitted.weights, fitted.aside, family, fitted.layout)
    assert back.keys() == counted.keys()
    assert {tensor.dtype for tensor in back.values() if tensor.is_floating_point()} == {torch.bfloat16}
    with pytest.raises(UserError, match=f"holds {family.name!r} weights 2 times; choose"):
        part_of(Published("f.ckpt", "", {"model": counted, "model_ema": counted}), family)


@pytest.mark.parametrize("name", NAMES)
def test_published_weights_name_datasets_that_we_know_as_what_they_have_seen(name: str) -> None:
    with torch.device("meta"):
        corpora = ENTRIES[name].build().corpora
    assert corpora
    assert set(corpora) <= {entry.name for entry in CATALOGUE.datasets} | collections()
