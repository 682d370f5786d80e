"""Which store a protocol's dataset is, what tasks it has, and that looking makes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

import melp_bench as mb
from melp_bench.errors import UserError
from melp_bench.plugins import Catalogue
from melp_bench.progress import Silence
from melp_bench.protocol import Protocol
from melp_bench.runs.stores import open_stores, unprepared
from melp_bench.store import prepare, store_path


class Made(mb.Dataset):
    """Records that are made; `version` and `prompt` change as a plugin does under edit."""

    licence, citation, generated = "none", "none", True
    prompt, version = "old words", "1"

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        return {"all": mb.Task("all", {"X": frozenset({"x"})}, {"X": (self.prompt,)}, keep_unlabelled=True)}

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        for number in range(20):
            yield mb.RecordInfo(f"r{number}", statements=frozenset({"x"} if number % 2 else ()))

    def signal(self, source: Path, info: mb.RecordInfo) -> mb.Signal:
        x = np.random.default_rng(int(info.record_id[1:])).standard_normal((1, 300)).cumsum(axis=1) * 0.05
        return mb.Signal(x.astype(np.float32), 100.0, ("II",))


class OfFiles(Made):
    """The same, but measured, and its classes are known from its files alone."""

    generated = False
    found: tuple[str, ...] = ()

    @property
    def tasks(self) -> Mapping[str, mb.Task]:
        return {"all": mb.Task("all", {name: frozenset({"x"}) for name in self.found})} if self.found else {}

    def infos(self, source: Path) -> Iterator[mb.RecordInfo]:
        self.found = ("class of the table",)
        return super().infos(source)


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "home"))
    catalogue = Catalogue()
    catalogue.datasets.add(mb.Entry(name="made", build=Made, summary=""))
    catalogue.datasets.add(mb.Entry(name="of-files", build=OfFiles, summary=""))
    return catalogue


def protocol(*datasets: str) -> Protocol:
    uses = {name: {"dataset": name} for name in datasets}
    return Protocol.model_validate({"name": "p", "revision": 1, "summary": "", "datasets": uses, "evaluations": []})


def files(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_words_that_a_plugin_changes_reach_a_store_that_is_there(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_stores(protocol("made"), catalogue, Silence(), 1)["made"]
    assert first.task("all").prompts == {"X": ("old words",)}
    monkeypatch.setattr(Made, "prompt", "new words")
    again = open_stores(protocol("made"), catalogue, Silence(), 1)["made"]
    assert again.task("all").prompts == {"X": ("new words",)}
    assert again.fingerprint == first.fingerprint


def test_tasks_that_only_files_tell_are_the_stores(catalogue: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'of-files' is not prepared; run: melp-bench data prepare of-files --from DIR"):
        open_stores(protocol("of-files"), catalogue, Silence(), 1)
    prepare(OfFiles(), name="of-files", source=tmp_path)
    store = open_stores(protocol("of-files"), catalogue, Silence(), 1)["of-files"]
    assert store.task("all").classes == ("class of the table",)


def test_looking_for_stores_makes_and_changes_nothing(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = protocol("made", "of-files")
    assert set(unprepared(both, catalogue)) == {"made", "of-files"}
    assert not files(tmp_path)
    prepare(Made(), name="made", source=None)
    prepare(OfFiles(), name="of-files", source=tmp_path)
    assert unprepared(both, catalogue) == {}
    monkeypatch.setattr(Made, "version", "2")
    before = files(tmp_path)
    told = unprepared(both, catalogue)
    assert told == {
        "made": "it is to be made, which the run does",
        "of-files": "first: melp-bench data prepare of-files --from DIR",
    }
    assert files(tmp_path) == before
    with pytest.raises(UserError, match="was prepared from version '1', and the plugin reads '2'"):
        open_stores(protocol("of-files"), catalogue, Silence(), 1)
    assert open_stores(protocol("made"), catalogue, Silence(), 1)["made"].manifest.version == "2"
    assert (store_path("made", {}) / "store.json").is_file()
