"""Loggers: what TensorBoard and Weights & Biases are given, that a stranger's is found, and that none can harm a run."""

from __future__ import annotations

import importlib.util
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

import melp_bench as mb
from melp_bench.errors import UnknownName, UserError
from melp_bench.plugins import GROUP, discover
from melp_bench.runs.loggers import build_loggers, logged
from melp_bench.testing import check_component
from melp_bench.testing.loggers import BEGUN, TRAINED, VALIDATED

CATALOGUE = discover()
STRANGER = '''
"""A logger of another package."""
import melp_bench as mb


class Lines(mb.RunLogger):
    def __init__(self, *, name: str = "lines.txt") -> None:
        self.name, self.file = name, None

    def begin(self, run: mb.LoggedRun) -> None:
        folder = run.folder / "lines"
        folder.mkdir(exist_ok=True)
        self.file = (folder / self.name).open("a")

    def log(self, values: mb.StepValues) -> None:
        self.file.write(f"{values.stage} {values.part} {values.step} {values.total:.2f}\\n")

    def end(self) -> None:
        self.file.close()


@mb.hookimpl
def melp_loggers() -> list[mb.Entry[mb.RunLogger]]:
    return [mb.Entry("lines", Lines, "a line per step")]
'''


def run_in(folder: Path) -> mb.LoggedRun:
    return mb.LoggedRun("melp", folder, {"recipe": {"name": "melp"}, "budget": {"steps": 4}})


def log_all(logger: mb.RunLogger, folder: Path, *values: mb.StepValues) -> list[str]:
    """Return what is said while the values are logged."""
    said: list[str] = []
    with logged({"mine": logger}, run_in(folder), said.append) as handed:
        for one in values:
            for hand in handed:
                hand(one)
    return said


class FakeWriter:
    """SummaryWriter as far as it is used."""

    made: ClassVar[list[FakeWriter]] = []

    def __init__(self, log_dir: str, *, purge_step: int | None = None) -> None:
        self.log_dir, self.purge_step, self.closed = log_dir, purge_step, False
        self.scalars: list[tuple[str, float, int]] = []
        FakeWriter.made.append(self)

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self.scalars.append((tag, value, step))

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self.closed = True


def test_tensorboard_is_given_every_value_by_stage_and_purged_where_a_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = FakeWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(FakeWriter, "made", [])
    logger = CATALOGUE.loggers["tensorboard"].build(every=1)
    again = mb.StepValues("words", "begin", 7, 9, {}, 0.0)
    assert log_all(logger, tmp_path, BEGUN, TRAINED, VALIDATED, again) == []
    first, second = FakeWriter.made
    assert (first.log_dir, first.purge_step) == (str(tmp_path / "tensorboard" / "alignment"), None)
    assert (second.log_dir, second.purge_step) == (str(tmp_path / "tensorboard" / "words"), 8)
    assert first.closed
    assert second.closed
    assert {tag: value for tag, value, step in first.scalars if step == 1} == {
        "train/rhythm": 1.5,
        "train/masked-words": 0.25,
        "train/total": 1.75,
        "step/learning_rate": 1e-3,
        "step/gradient_norm": 0.5,
        "step/records_per_second": 48.0,
        "step/waiting": 0.1,
    }
    assert ("watched/ecg_rank", 7.5, 2) in first.scalars
    assert ("validation/rhythm", 1.5, 2) in first.scalars


def test_tensorboard_reads_what_was_written_for_it(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert log_all(CATALOGUE.loggers["tensorboard"].build(every=1), tmp_path, BEGUN, TRAINED, VALIDATED) == []
    events = reader.EventAccumulator(str(tmp_path / "tensorboard" / "alignment"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/rhythm")] == [(1, 1.5)]
    assert [(event.step, event.value) for event in events.Scalars("watched/ecg_rank")] == [(2, 7.5)]


class FakeRun:
    """A run of Weights & Biases as far as it is used."""

    def __init__(self) -> None:
        self.logged: list[dict[str, float]] = []
        self.axes: dict[str, str] = {}
        self.finished = 0

    def define_metric(self, name: str, *, step_metric: str) -> None:
        self.axes[name] = step_metric

    def log(self, values: dict[str, float]) -> None:
        self.logged.append(values)

    def finish(self) -> None:
        self.finished += 1


def test_weights_and_biases_is_opened_offline_in_the_runs_folder_and_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, asked = FakeRun(), {}

    def init(**given: Any) -> FakeRun:
        asked.update(given)
        return run

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Settings=dict))
    logger = CATALOGUE.loggers["wandb"].build()
    assert log_all(logger, tmp_path, BEGUN, TRAINED, VALIDATED) == []
    assert (asked["mode"], asked["dir"], asked["project"], asked["name"]) == ("offline", str(tmp_path), "melp-bench", "melp")
    assert asked["config"]["budget"] == {"steps": 4}
    assert run.axes == {"alignment/*": "alignment/done"}
    assert [values["alignment/done"] for values in run.logged] == [1, 2]
    assert run.logged[0]["alignment/train/rhythm"] == 1.5
    assert run.finished == 1


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_package_that_is_not_installed_is_told_with_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"logger '{name}' cannot be used here: .* pip install 'melp-bench\[{name}\]'"):
        build_loggers([name], CATALOGUE)
    assert [verdict.ok for verdict in check_component("logger", CATALOGUE.loggers[name])][1:] == [None, None, None]


@pytest.mark.parametrize(
    ("words", "error", "told"),
    [
        (["tensorbord"], UnknownName, "did you mean 'tensorboard'"),
        (["tensorboard,evry=2"], UserError, "has no option 'evry'; did you mean 'every'"),
        (["tensorboard,every"], UserError, "NAME or NAME,OPTION=VALUE"),
        (["tensorboard", "tensorboard"], UserError, "each logger once"),
        (["tensorboard,every=0"], UserError, "wanted at least 1"),
        (["wandb,mode=cloud"], UserError, "wanted one of offline"),
    ],
)
def test_wrong_words_are_told_before_any_work(
    words: list[str], error: type[Exception], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("melp_plugins.loggers.tensorboard.TensorBoard.missing", lambda self: None)
    with pytest.raises(error, match=told):
        build_loggers(words, CATALOGUE)


def test_a_strangers_logger_is_found_checked_and_written_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "strangers_lines.py").write_text(STRANGER, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    catalogue = discover([EntryPoint("lines", "strangers_lines", GROUP)])
    assert catalogue.broken == []
    assert all(verdict.ok for verdict in check_component("logger", catalogue.loggers["lines"]))
    (logger,) = build_loggers(["lines,name=mine.txt"], catalogue).values()
    assert log_all(logger, tmp_path, BEGUN, TRAINED, VALIDATED) == []
    text = (tmp_path / "lines" / "mine.txt").read_text(encoding="utf-8")
    assert text.splitlines() == ["alignment begin 0 0.00", "alignment train 1 1.75", "alignment validation 2 1.75"]


class Failing(mb.RunLogger):
    """Fails where it is told to."""

    def __init__(self, where: str) -> None:
        self.where, self.calls, self.ended = where, 0, 0

    def begin(self, run: mb.LoggedRun) -> None:
        if self.where == "begin":
            raise RuntimeError("no server")

    def log(self, values: mb.StepValues) -> None:
        self.calls += 1
        if values.part == self.where:
            raise OSError("the disk is full")

    def end(self) -> None:
        self.ended += 1
        if self.where == "end":
            raise RuntimeError("not closed")


def test_a_logger_that_fails_is_told_once_and_the_run_goes_on(tmp_path: Path) -> None:
    failing = Failing("train")
    (told,) = log_all(failing, tmp_path, BEGUN, TRAINED, TRAINED, VALIDATED)
    assert told == "logger 'mine' failed at step 1 and is left out: OSError: the disk is full"
    assert (failing.calls, failing.ended) == (2, 1)
    assert log_all(Failing("end"), tmp_path, BEGUN) == []
    with pytest.raises(UserError, match="cannot begin: RuntimeError: no server; leave out --log mine"):
        log_all(Failing("begin"), tmp_path, BEGUN)
