"""Checkpoints: whole or not there, checked before they are loaded, never unpickled."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from melp_bench import checkpoint
from melp_bench.checkpoint import (
    MANIFEST,
    WEIGHTS,
    Manifest,
    check_checkpoint,
    is_checkpoint,
    load_weights,
    read_assets,
    read_manifest,
    save_checkpoint,
)
from melp_bench.errors import UserError
from melp_bench.recipe import Part, Recipe

RECIPE = Recipe(name="r", summary="s", encoder=Part(name="e"))


class Tied(nn.Module):
    """Two names of one tensor, a buffer, and a tensor that is not contiguous."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.second.weight = self.first.weight
        self.register_buffer("mean", torch.randn(4, width).T)


def save(folder: Path, module: nn.Module | None = None) -> Manifest:
    torch.manual_seed(0)
    return save_checkpoint(folder, module or Tied(), {"recipe": RECIPE, "corpora": ["c"]}, {"words.json": '["ä"]'})


def test_weights_assets_and_manifest_come_back(tmp_path: Path) -> None:
    written = save(tmp_path / "c")
    assert read_manifest(tmp_path / "c") == written
    assert written.weights_sha256 == hashlib.sha256((tmp_path / "c" / WEIGHTS).read_bytes()).hexdigest()
    assert read_assets(tmp_path / "c", written) == {"words.json": '["ä"]'}
    torch.manual_seed(0)
    wanted, loaded = Tied(), Tied()
    load_weights(tmp_path / "c", written, loaded)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in wanted.state_dict().items())
    check_checkpoint(tmp_path / "c")


def test_equal_weights_have_equal_digests(tmp_path: Path) -> None:
    assert save(tmp_path / "a").weights_sha256 == save(tmp_path / "b").weights_sha256


def test_a_folder_is_no_checkpoint_before_its_last_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = checkpoint.atomic_write

    def dying(path: Path, content: bytes | str) -> None:
        if path.name == MANIFEST:
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(checkpoint, "atomic_write", dying)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path)
    assert not is_checkpoint(tmp_path)
    assert (tmp_path / WEIGHTS).is_file()
    with pytest.raises(UserError, match="holds no checkpoint"):
        read_manifest(tmp_path)


def test_weights_of_another_shape_or_other_names_are_refused_and_nothing_is_loaded(tmp_path: Path) -> None:
    written = save(tmp_path)
    other = Tied(width=5)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    for module in (other, nn.Sequential(Tied())):
        with pytest.raises(UserError, match="does not fit the model of its recipe"):
            load_weights(tmp_path, written, module)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def test_every_flipped_byte_of_the_weights_is_noticed(tmp_path: Path) -> None:
    save(tmp_path)
    good = (tmp_path / WEIGHTS).read_bytes()
    for place in range(0, len(good), 37):
        (tmp_path / WEIGHTS).write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(UserError, match=r"damaged: its SHA-256 .* delete the folder"):
            check_checkpoint(tmp_path)


def test_a_pickle_is_not_read_even_with_its_digest_in_the_manifest(tmp_path: Path) -> None:
    save(tmp_path)
    torch.save(Tied().state_dict(), tmp_path / WEIGHTS)
    fields = json.loads((tmp_path / MANIFEST).read_text(encoding="utf-8"))
    fields["weights_sha256"] = hashlib.sha256((tmp_path / WEIGHTS).read_bytes()).hexdigest()
    (tmp_path / MANIFEST).write_text(json.dumps(fields), encoding="utf-8")
    with pytest.raises(UserError, match="is not a safetensors file"):
        load_weights(tmp_path, read_manifest(tmp_path), Tied())


@pytest.mark.parametrize("name", ["../words.json", "/etc/passwd", "a/b.json"])
def test_an_asset_outside_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    save(tmp_path)
    fields = json.loads((tmp_path / MANIFEST).read_text(encoding="utf-8"))
    (tmp_path / MANIFEST).write_text(json.dumps(fields | {"assets": [name]}), encoding="utf-8")
    with pytest.raises(UserError, match="outside its folder"):
        read_manifest(tmp_path)
