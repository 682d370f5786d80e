"""The state on disk: killed while it is written, damaged, on a full disk; what was written before is never lost."""

from __future__ import annotations

import errno
import io
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from short_training import Killed, assert_same, train
from torch import nn

from melp_bench.errors import UserError
from melp_bench.pretrain import state
from melp_bench.pretrain.loop import Trained
from melp_bench.pretrain.step import Step
from melp_bench.store import Store


@pytest.mark.parametrize("written", [1, 2, 3, 4, 5])
def test_death_in_the_middle_of_writing_a_state_leaves_a_good_one(
    store: Store, undisturbed: tuple[Step, Trained], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    calls = 0
    save = torch.save

    def dying(value: object, file: object) -> None:
        nonlocal calls
        calls += 1
        if calls == written:
            file.write(b"half a state")  # type: ignore[attr-defined]
            raise Killed
        save(value, file)  # type: ignore[arg-type]

    monkeypatch.setattr(state.torch, "save", dying)
    with pytest.raises(Killed):
        train(store, tmp_path)
    monkeypatch.undo()
    assert_same(train(store, tmp_path), undisturbed)


def test_death_between_the_names_of_two_states_goes_on_in_the_same_bits(
    store: Store, undisturbed: tuple[Step, Trained], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = state.commit

    def dying(descriptor: int, temporary: Path, path: Path) -> None:
        if path.with_stem(state.BEFORE).is_file():
            raise Killed
        commit(descriptor, temporary, path)

    monkeypatch.setattr(state, "commit", dying)
    with pytest.raises(Killed):
        train(store, tmp_path)
    monkeypatch.undo()
    assert {path.name for path in tmp_path.iterdir()} == {"before.pt", "best.pt"}
    assert_same(train(store, tmp_path), undisturbed)


@pytest.mark.parametrize("names", [("last", "before"), ("best",)])
def test_a_damaged_state_says_what_to_do(store: Store, tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(Killed):
        train(store, tmp_path, die_after=7)
    for name in names:
        path = tmp_path / f"{name}.pt"
        path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(UserError, match=rf"{names[-1]}\.pt' is damaged .* delete the folder"):
        train(store, tmp_path)
    path = tmp_path / f"{names[0]}.pt"
    torch.save({"stage": "pretrain", "step": 3, "weights": {"no": torch.zeros(1)}, "optimizer": {}, "trained": {}}, path)
    with pytest.raises(UserError, match=r"does not fit this model .* delete the folder"):
        train(store, tmp_path)
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(UserError, match="is damaged"):  # what only unpickling could read is not read
        train(store, tmp_path)


def cut(content: bytearray) -> bytearray:
    return content[:-700]


def flipped(content: bytearray) -> bytearray:
    """Return the content with one bit of a weight changed, which nothing but a checksum sees."""
    with zipfile.ZipFile(io.BytesIO(content)) as parts:
        weight = parts.read(next(name for name in parts.namelist() if name.endswith("/data/0")))
    content[content.index(weight) + 2] ^= 1
    return content


@pytest.mark.parametrize("damage", [cut, flipped])
def test_a_damaged_last_state_falls_back_to_the_one_before_and_ends_in_the_same_bits(
    store: Store, undisturbed: tuple[Step, Trained], tmp_path: Path, damage: Callable[[bytearray], bytearray]
) -> None:
    with pytest.raises(Killed):
        train(store, tmp_path, die_after=7)
    path, lines = tmp_path / "last.pt", list[str]()
    path.write_bytes(damage(bytearray(path.read_bytes())))
    assert_same(train(store, tmp_path, said=lines.append), undisturbed)
    assert lines == [f"the last state {str(path)!r} is damaged; going on from the one before it"]


def full(value: object, file: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_stops_in_one_line_and_breaks_nothing(
    store: Store, undisturbed: tuple[Step, Trained], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Killed):
        train(store, tmp_path, die_after=4)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(state.torch, "save", full)
    with pytest.raises(UserError, match=r"cannot write '.*\.pt': No space left on device; make room there") as told:
        train(store, tmp_path)
    monkeypatch.undo()
    assert "\n" not in str(told.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert_same(train(store, tmp_path), undisturbed)


@pytest.mark.parametrize("room", [1_000, 20_000, 30_000])
def test_a_file_that_takes_less_than_it_is_given_stops_in_one_line_too(
    store: Store, undisturbed: tuple[Step, Trained], tmp_path: Path, room: int
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(UserError, match=r"cannot write '.*\.pt': File too large"):
            train(store, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.glob(".tmp-*"))
    assert_same(train(store, tmp_path), undisturbed)
