"""A store knows what it was read from: another folder is never taken for it, nor are files that changed."""

from __future__ import annotations

import os
import signal as signals
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from made_waves import content
from other_process import OtherProcess

from melp_bench.errors import UserError
from melp_bench.records import BadRecord, Dataset, RecordInfo, Signal, Task
from melp_bench.store import Store, open_store, prepare

COUNT = 48  # three shards


class Files(Dataset):
    """Records of lead II from one raw file each; what the table says is the same for every folder."""

    version, licence, citation = "1", "none", "none"

    @property
    def tasks(self) -> Mapping[str, Task]:
        return {"all": Task("all", {"X": frozenset({"x"})}, keep_unlabelled=True)}

    def infos(self, source: Path) -> Iterator[RecordInfo]:
        for number in range(COUNT):
            yield RecordInfo(f"r{number}", statements=frozenset({"x"} if number % 2 else ()), path=f"r{number}.raw")

    def signal(self, source: Path, info: RecordInfo) -> Signal:
        values = np.frombuffer((source / (info.path or "")).read_bytes(), dtype="<i2")
        if not len(values):
            raise BadRecord("zero-byte-file", info.path or "")
        return Signal(values[None].astype(np.float32) / 1000, 100.0, ("II",), (0.001,))


def folder(root: Path, seed: int) -> Path:
    """Return a folder of the records `r0` to `r47`, drawn with `seed`."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(COUNT):
        values = rng.normal(0, 30, 120).cumsum().astype("<i2")
        (root / f"r{number}.raw").write_bytes(values.tobytes())
    return root


def make(root: Path, source: Path, **changes: object) -> Store:
    return prepare(Files(), name="files", source=source, root=root, **changes)  # type: ignore[arg-type]


def shards(root: Path) -> dict[str, bytes]:
    """Return the bytes of all that a store holds, but for what it says of the machine."""
    return {name: text for name, text in content(root).items() if name not in ("source.json", ".lock")}


@pytest.fixture
def a(tmp_path: Path) -> Path:
    return folder(tmp_path / "a", 1)


@pytest.fixture
def b(tmp_path: Path) -> Path:
    return folder(tmp_path / "b", 2)


def test_another_folder_is_refused_by_name_and_taken_with_replace(a: Path, b: Path, tmp_path: Path) -> None:
    """A plan that knew the table alone returned the store of the first folder for the second, and said nothing."""
    root, told = tmp_path / "s", list[str]()
    before = content(make(root, a).root)
    for flag in ({}, {"fresh": True}):
        with pytest.raises(UserError, match=rf"was read from '{a}', and you gave '{b}'; .* --replace"):
            make(root, b, **flag)
        assert content(root) == before
    make(root, b, replace=True, tell=told.append)
    assert any(str(a) in line and str(b) in line for line in told)
    assert shards(root) == shards(make(tmp_path / "alone", b).root)


def test_a_run_killed_on_one_folder_is_not_gone_on_with_from_another(a: Path, b: Path, tmp_path: Path) -> None:
    """One finished store held shards of both folders."""
    root, told = tmp_path / "s", list[str]()
    killed(root, a)
    assert len(list((root / "parts").iterdir())) == 1
    make(root, b, tell=told.append)
    assert told == [
        f"what was begun from '{a}' and not finished is not gone on with: files, records or code are others now",
    ]
    assert shards(root) == shards(make(tmp_path / "alone", b).root)


def test_a_run_killed_on_one_folder_is_gone_on_with_from_it(a: Path, tmp_path: Path) -> None:
    root, steps = tmp_path / "s", list[int]()
    killed(root, a)
    make(root, a, progress=lambda done, total: steps.append(done))
    assert steps[0] == 16
    assert content(root) == content(make(tmp_path / "alone", a).root)


def killed(root: Path, source: Path) -> None:
    """Prepare in another process, which kills itself after its first shard."""
    child = os.fork()
    if child == 0:
        make(root, source, progress=lambda done, total: os.kill(os.getpid(), signals.SIGKILL) if done else None)
        os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_a_file_that_was_repaired_is_read_and_the_others_stay_what_they_are(a: Path, tmp_path: Path) -> None:
    """A finished store was returned as it was, and what an attempt had read was read again after the repair."""
    whole = (a / "r5.raw").read_bytes()
    (a / "r5.raw").write_bytes(b"")
    root, told = tmp_path / "s", list[str]()
    assert make(root, a).manifest.quarantined == {"zero-byte-file": 1}
    (a / "r5.raw").write_bytes(whole)
    assert make(root, a, tell=told.append).manifest.quarantined == {}
    assert told == [
        f"files in '{a}' were changed or added since the store of 'files' with 47 records was made; it is made again"
    ]
    assert content(root) == content(make(tmp_path / "alone", a).root)
    calls: list[int] = []
    make(root, a, progress=lambda done, total: calls.append(done))
    assert calls == []


def test_an_interrupted_run_is_gone_on_with_where_nothing_changed_and_begun_anew_after_a_repair(
    a: Path, tmp_path: Path
) -> None:
    def interrupt(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    for repaired in (False, True):
        root, steps = tmp_path / f"s{repaired}", list[int]()
        with pytest.raises(KeyboardInterrupt):
            make(root, a, progress=interrupt)
        if repaired:
            (a / "r3.raw").write_bytes((a / "r4.raw").read_bytes())
        make(root, a, progress=lambda done, total, steps=steps: steps.append(done))
        assert steps[0] == (0 if repaired else 16)
        assert content(root) == content(make(tmp_path / f"alone{repaired}", a).root)


def test_an_attempt_that_failed_is_not_read_again_after_the_repair(a: Path, b: Path, tmp_path: Path) -> None:
    """What was refused on one folder was refused on every other, and after the repair."""
    root, kept = tmp_path / "s", {path: path.read_bytes() for path in a.iterdir()}
    for path in kept:
        path.write_bytes(b"")
    with pytest.raises(UserError, match="zero-byte-file 48"):
        make(root, a)
    assert shards(make(tmp_path / "other", b).root) == shards(make(root, b).root)
    for path, text in kept.items():
        path.write_bytes(text)
    assert len(make(root, a, replace=True)) == COUNT


def test_a_failing_preparation_from_another_folder_leaves_the_store(a: Path, b: Path, tmp_path: Path) -> None:
    before = content(make(tmp_path / "s", a).root)
    for path in b.iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match="no record of 'files' can be used"):
        make(tmp_path / "s", b, replace=True)
    now = content(tmp_path / "s")
    assert {name: now[name] for name in before} == before
    assert len(open_store(tmp_path / "s")) == COUNT


def test_files_that_change_while_they_are_read_make_no_store(a: Path, tmp_path: Path) -> None:
    def change(done: int, total: int) -> None:
        if done == 16:
            (a / "r0.raw").write_bytes(bytes(4))

    with pytest.raises(UserError, match="were changed while they were read; run the same command again"):
        make(tmp_path / "s", a, progress=change)
    assert not (tmp_path / "s" / "store.json").exists()


def test_a_store_that_does_not_say_its_source_is_not_guessed_to_be_of_this_one(a: Path, tmp_path: Path) -> None:
    root = make(tmp_path / "s", a).root
    (root / "source.json").unlink()
    with pytest.raises(UserError, match="does not say what it was read from"):
        make(root, a)
    assert len(make(root, a, replace=True)) == COUNT


def test_of_two_at_once_from_two_folders_one_makes_the_store_and_the_other_is_refused(a: Path, b: Path, tmp_path: Path) -> None:
    both = [OtherProcess(lambda say, tell, source=source: make(tmp_path / "s", source, tell=tell)) for source in (a, b)]
    ends = [process.end() for process in both]
    made = [status == 0 for status, _, _ in ends]
    assert sorted(made) == [False, True], ends
    winner = (a, b)[made.index(True)]
    assert "was read from" in ends[made.index(False)][2]
    assert content(tmp_path / "s") == content(make(tmp_path / "alone", winner).root)
