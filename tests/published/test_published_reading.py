"""Published files are read without running anything in them; what cannot be read is said in one line."""

from __future__ import annotations

import hashlib
import os
import pickle
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi, constants
from safetensors.torch import save_file

from melp_bench.errors import UserError
from melp_bench.published.tensor_files import read_published

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


class Exploit:
    """Makes a folder when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_published(str(path))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("payload", "container"),
    [
        (TENSORS, ""),
        ({"state_dict": TENSORS, "epoch": 3, "hyper_parameters": {"lr": 1e-4}}, "state_dict"),
        ({"model": TENSORS, "args": Namespace(lr=1e-4), "optimizer_history": []}, "model"),
    ],
    ids=["bare", "lightning", "fairseq"],
)
@pytest.mark.parametrize("name", ["f.pt", "f.pth", "f.ckpt"])
def test_every_container_gives_the_same_tensors(tmp_path: Path, payload: object, container: str, name: str) -> None:
    path = tmp_path / name
    torch.save(payload, path)
    read = read_published(str(path))
    assert list(read.parts) == [container]
    assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(read.tensors[key], tensor) for key, tensor in TENSORS.items())


PLAIN = [
    *(np.float64(0.9), np.float32(0.9), np.int64(3), np.bool_(True)),
    *(
        np.arange(3.0),
        np.ones((2, 2), np.float32),
        np.zeros(2, np.uint8),
        np.array(["I", "II"]),
        np.array([True]),
        np.array(1.0),
    ),
]


@pytest.mark.parametrize("beside", PLAIN, ids=repr)
def test_plain_values_beside_the_weights_are_no_hindrance(tmp_path: Path, beside: object) -> None:
    torch.save({"state_dict": TENSORS, "best": {"score": beside}}, tmp_path / "f.ckpt")
    assert read_published(str(tmp_path / "f.ckpt")).tensors.keys() == TENSORS.keys()


def test_a_numpy_scalar_written_before_numpy_2_is_read(tmp_path: Path) -> None:
    path = tmp_path / "f.ckpt"
    torch.save({"state_dict": TENSORS, "best": np.float64(0.9)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    assert content.count(b"cnumpy._core.multiarray\n") == 1
    path.write_bytes(content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
    assert read_published(str(path)).tensors.keys() == TENSORS.keys()


def test_a_numpy_array_of_objects_is_refused_and_never_run(tmp_path: Path) -> None:
    hidden = np.array([Exploit(tmp_path / "ran")], dtype=object)
    torch.save({"state_dict": TENSORS, "extra": hidden}, tmp_path / "f.ckpt")
    refused(tmp_path / "f.ckpt")
    assert not (tmp_path / "ran").exists()


def test_a_numpy_scalar_that_hides_an_object_is_refused_and_never_run(tmp_path: Path) -> None:
    class Hidden:
        def __reduce__(self) -> tuple[object, tuple[object, bytes]]:
            inner = pickle.dumps(Exploit(tmp_path / "ran"))
            return np.float64(0).__reduce__()[0], (np.dtype(object), inner)

    torch.save({"state_dict": TENSORS, "extra": Hidden()}, tmp_path / "f.ckpt")
    refused(tmp_path / "f.ckpt")
    assert not (tmp_path / "ran").exists()


BOTH = {"model": TENSORS, "model_ema": {key: 2 * tensor for key, tensor in TENSORS.items()}, "epoch": 3}


def test_every_state_dict_in_a_file_is_a_part_by_its_name(tmp_path: Path) -> None:
    optimiser = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
    torch.save({"checkpoint": BOTH, "optimizer": optimiser, "scale": torch.ones(1)}, tmp_path / "f.pt")
    read = read_published(str(tmp_path / "f.pt"))
    assert list(read.parts) == ["", "checkpoint.model", "checkpoint.model_ema"]
    assert read.tensors.keys() == {"scale", *(f"checkpoint.{part}.{key}" for part in ("model", "model_ema") for key in TENSORS)}


def test_a_part_is_chosen_by_its_name_behind_the_files(tmp_path: Path) -> None:
    torch.save(BOTH, tmp_path / "f.pt")
    read = read_published(f"{tmp_path / 'f.pt'}#model_ema")
    assert read.sha256 == read_published(str(tmp_path / "f.pt")).sha256
    assert all(torch.equal(read.tensors[key], 2 * tensor) for key, tensor in TENSORS.items())
    with pytest.raises(UserError, match=r"has no part 'ema'; it has 'model', 'model_ema'"):
        read_published(f"{tmp_path / 'f.pt'}#ema")
    torch.save({"a": torch.ones(1)}, tmp_path / "f.pt#model_ema")  # a file's own name comes first
    assert read_published(f"{tmp_path / 'f.pt'}#model_ema").tensors.keys() == {"a"}


def test_mappings_in_one_another_without_end_are_no_hindrance(tmp_path: Path) -> None:
    endless: dict[str, object] = {"model": TENSORS}
    endless["again"] = endless
    torch.save(endless, tmp_path / "f.pt")
    assert "model" in read_published(str(tmp_path / "f.pt")).parts


def test_the_content_says_the_format_and_not_the_name(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "f.bin")
    torch.save(TENSORS, tmp_path / "f.safetensors")
    for name in ("f.bin", "f.safetensors"):
        assert read_published(str(tmp_path / name)).tensors.keys() == TENSORS.keys()


def test_safetensors_and_the_format_of_before_2020_are_read(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "f.safetensors")
    torch.save(TENSORS, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("f.safetensors", "old.pt"):
        assert read_published(str(tmp_path / name)).tensors.keys() == TENSORS.keys()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_in_it_is_refused_and_never_run(tmp_path: Path, zipped: bool) -> None:
    mark = tmp_path / "ran"
    torch.save({"state_dict": TENSORS, "extra": Exploit(mark)}, tmp_path / "evil.pt", _use_new_zipfile_serialization=zipped)
    message = refused(tmp_path / "evil.pt")
    assert "mkdir" in message
    assert "save its state dict" in message
    assert not mark.exists()


def test_a_plain_pickle_with_code_in_it_is_refused_and_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Exploit(mark)))
    refused(tmp_path / "evil.pth")
    assert not mark.exists()


@pytest.mark.parametrize(("name", "said"), [("f.pt", "text file"), ("f.safetensors", "not a whole safetensors file")])
def test_a_text_file_is_no_checkpoint(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / name).write_text("<html>404 not found</html>\n" * 9)
    assert said in refused(tmp_path / name)


@pytest.mark.parametrize("name", ["f.pt", "f.safetensors"])
@pytest.mark.parametrize("kept", [0, 1, 40, 300])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str, kept: int) -> None:
    whole = tmp_path / f"whole-{name}"
    save_file(TENSORS, whole) if name.endswith("safetensors") else torch.save(TENSORS, whole)
    (tmp_path / name).write_bytes(whole.read_bytes()[: min(kept, whole.stat().st_size - 8)])
    refused(tmp_path / name)


def test_a_git_lfs_pointer_is_called_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "f.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    assert "Git LFS pointer" in refused(tmp_path / "f.pt")


@pytest.mark.parametrize("payload", [{"lr": 0.1}, [1, 2], torch.ones(2), {}])
def test_a_file_without_named_tensors_is_refused(tmp_path: Path, payload: object) -> None:
    torch.save(payload, tmp_path / "f.pt")
    assert "no tensors by name" in refused(tmp_path / "f.pt")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "no checkpoint file" in refused(tmp_path / "absent.pt")
    assert "no checkpoint file" in refused(tmp_path)


@pytest.mark.parametrize("address", ["hf:", "hf:owner", "hf:a/../b", "hf:owner/name/../x.pt", "hf:owner/name//x", "hf:-/x"])
def test_an_odd_hub_address_is_refused_before_any_request(address: str) -> None:
    with pytest.raises(UserError, match="no hub address"):
        read_published(address)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a repository's only revision in the hub's own cache, with nothing else to be reached."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    revision, repository = "a" * 40, tmp_path / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision)
    return repository / "snapshots" / revision


def test_a_file_of_the_hub_is_read_from_its_cache(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (cache / "sub").mkdir(parents=True)
    torch.save({"model": TENSORS}, cache / "sub" / "f.pt")
    read = read_published("hf:owner/name/sub/f.pt")
    assert read.source == "hf:owner/name/sub/f.pt"
    assert read.tensors.keys() == TENSORS.keys()
    with pytest.raises(UserError, match=r"cannot fetch 'hf:owner/name/absent\.pt'") as caught:
        read_published("hf:owner/name/absent.pt")
    assert "\n" not in str(caught.value)
    assert "".join(capfd.readouterr()) == ""


def test_the_only_weights_of_a_repository_need_no_name_and_several_are_named(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir(parents=True)
    save_file(TENSORS, cache / "f.safetensors")
    files = ["README.md", "f.safetensors"]
    monkeypatch.setattr(HfApi, "list_repo_files", lambda self, repository: files)
    assert read_published("hf:owner/name").tensors.keys() == TENSORS.keys()
    files.append("sub/g.pth")
    with pytest.raises(UserError, match=r"2 weight files; name one: f\.safetensors, sub/g\.pth"):
        read_published("hf:owner/name")
