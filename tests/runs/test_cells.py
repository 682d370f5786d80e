"""Cells of a run: chosen by words, failing alone, and shared among processes or over a Ray cluster with the same rows."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from melp_bench.cli import _run
from melp_bench.errors import UserError
from melp_bench.plugins import discover
from melp_bench.results import Outcome, ResultRecord, read_results
from melp_bench.runs.duration import expected_seconds
from melp_bench.runs.run import RunResult, carry_out, look_ahead
from melp_bench.runs.run_spec import make_spec
from melp_plugins.evaluations.knn import NearestNeighbours

PROTOCOL = """
name = "tiny"
revision = 1
summary = "for tests"
models = ["random-init+resnet1d-18", "random-init+conv-transformer"]

[datasets.synthetic]
dataset = "synthetic"
options = { num_records = 120, seed = 0 }

[pretrain]
dataset = "synthetic"
steps = 2
batch_size = 8

[interval]
resamples = 20

[[evaluations]]
name = "linear_probe"
tasks = ["synthetic/super", "synthetic/rhythm"]
options.fractions = [0.5, 1.0]
options.seeds = [0]
options.epochs = 3

[[evaluations]]
name = "knn"
tasks = ["synthetic/super"]
"""
CATALOGUE = discover()
MODELS = ("random-init+resnet1d-18", "random-init+conv-transformer")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path, RunResult]]:
    """Return home, protocol and result of a run with one process."""
    folder = tmp_path_factory.mktemp("cells")
    protocol = folder / "tiny.toml"
    protocol.write_text(PROTOCOL, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELP_BENCH_HOME", str(folder / "home"))
        yield folder / "home", protocol, carry_out(make_spec(protocol, out=folder / "board"), CATALOGUE)


@pytest.fixture
def home(made: tuple[Path, Path, RunResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home that holds nothing but the corpus."""
    home = tmp_path / "home"
    shutil.copytree(made[0] / "stores", home / "stores")
    monkeypatch.setenv("MELP_BENCH_HOME", str(home))
    return home


def outcomes(result: RunResult) -> dict[str, tuple[Outcome | None, str, str]]:
    return {row.key: (row.outcome, row.reason, row.predictions) for row in result.rows}


@pytest.mark.parametrize(
    ("only", "skip", "count"),
    [
        ((), (), 10),
        (("knn",), (), 2),
        (("random-init+resnet1d-18",), (), 5),
        (("*resnet*,linear_probe",), (), 4),
        (("knn", "*resnet*"), (), 6),
        (("50 %",), (), 4),
        (("linear_probe 50 %", "synthetic/rhythm"), ("*RESNET*",), 3),
        ((), ("linear_probe",), 2),
        (("synthetic",), ("synthetic/super",), 4),
    ],
)
def test_words_choose_cells(
    made: tuple[Path, Path, RunResult], only: tuple[str, ...], skip: tuple[str, ...], count: int
) -> None:
    found = look_ahead(make_spec(made[1], out=made[0].parent / "board", only=only, skip=skip), CATALOGUE)
    assert isinstance(found, tuple)
    assert len(found[0].rows) == count
    assert found[0].missing() == []


def test_a_word_that_fits_nothing_is_told_with_what_is_near(made: tuple[Path, Path, RunResult], home: Path) -> None:
    with pytest.raises(UserError, match=r"--only 'linear_prob' fits no cell; did you mean 'linear.probe'\?"):
        look_ahead(make_spec(made[1], only=["linear_prob"]), CATALOGUE)
    with pytest.raises(UserError, match="--skip '\\*' leaves none of 10 cells"):
        look_ahead(make_spec(made[1], skip=["*"]), CATALOGUE)


def test_words_that_are_never_together_are_told_and_not_passed_over(made: tuple[Path, Path, RunResult], home: Path) -> None:
    """Two models with a comma left out nothing, and said nothing."""
    for flag in ("skip", "only"):
        with pytest.raises(
            UserError, match=f"--{flag} 'knn,linear_probe' fits no cell, as none has all .* give --{flag} for each"
        ):
            look_ahead(make_spec(made[1], **{flag: ["knn", "knn,linear_probe"]}), CATALOGUE)
    with pytest.raises(UserError, match=r"--skip 'kn' fits no cell; did you mean 'knn'\?"):
        look_ahead(make_spec(made[1], skip=["kn"]), CATALOGUE)


def test_words_that_fit_nothing_are_told_before_a_corpus_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "empty"))
    with pytest.raises(UserError, match="--skip 'melp,merl' fits no cell"):
        carry_out(make_spec("demo", out=tmp_path / "board", skip=["melp,merl"]), CATALOGUE)
    assert not (tmp_path / "empty" / "stores").exists()


def test_a_cell_that_fails_is_named_and_the_others_are_made(
    made: tuple[Path, Path, RunResult], home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = NearestNeighbours.run

    def fail(self: NearestNeighbours, context: Any, measurement: Any) -> Any:
        if "resnet" in context.name:
            raise RuntimeError("no\nneighbours")
        return run(self, context, measurement)

    monkeypatch.setattr(NearestNeighbours, "run", fail)
    assert _run(["run", str(made[1])], verbose=False) == 1
    said = capsys.readouterr()
    assert "failed  random-init+resnet1d-18 · knn synthetic/super: RuntimeError: no neighbours" in said.err
    assert "1 of 10 cells failed" in said.err
    there = {row.key: row.outcome for row in read_results(home / "leaderboard" / "results")}
    assert len(there) == 9
    assert there.items() <= {row.key: row.outcome for row in made[2].rows}.items()
    monkeypatch.setattr(NearestNeighbours, "run", run)
    assert _run(["run", str(made[1])], verbose=False) == 0
    said = capsys.readouterr()
    assert "plan   1 rows to compute, 9 cached" in said.out
    assert "time   " in said.out


def test_where_every_cell_fails_the_first_error_ends_the_run(
    made: tuple[Path, Path, RunResult], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: NearestNeighbours, context: Any, measurement: Any) -> Any:
        raise RuntimeError(context.name)

    monkeypatch.setattr(NearestNeighbours, "run", fail)
    with pytest.raises(RuntimeError, match="resnet"):
        carry_out(make_spec(made[1], only=["knn"]), CATALOGUE)


def test_two_processes_make_the_same_rows_as_one(made: tuple[Path, Path, RunResult], home: Path) -> None:
    result = carry_out(make_spec(made[1], out=home / "board", jobs=2), CATALOGUE)
    assert result.failures == ()
    assert len(result.rows) == 10
    assert outcomes(result) == outcomes(made[2])


def test_how_long_is_told_by_earlier_rows(made: tuple[Path, Path, RunResult]) -> None:
    plan = made[2].plan
    rows = [row for row in plan.rows if row.planned.name == "linear_probe"]
    earlier = [record.model_copy(update={"seconds": 10.0 + len(record.task)}) for record in made[2].rows]
    known, unknown = expected_seconds(rows, earlier)
    assert unknown == 0
    assert known == sum(10.0 + len(row.planned.measurement.task) for row in rows)
    assert expected_seconds(plan.rows, []) == (0.0, 10)


def test_jobs_and_clusters_that_are_none_are_refused() -> None:
    for wrong in ({"jobs": 0}, {"on": "slurm"}):
        with pytest.raises(UserError, match=r"--(jobs|on)"):
            make_spec("demo", **wrong)  # type: ignore[arg-type]


def rows_of(folder: Path) -> dict[str, ResultRecord]:
    return {row.key: row for row in read_results(folder / "results", lambda told: None)}


def worker_killed(there: Callable[[], bool]) -> threading.Thread:
    """Return a thread that kills one worker at work, once `there`."""
    psutil = pytest.importorskip("psutil", reason="needs psutil to find a worker")

    def kill() -> None:
        while not there():
            time.sleep(0.05)
        for process in psutil.Process().children(recursive=True):
            if "_make_share" in " ".join(process.cmdline()):
                os.kill(process.pid, signal.SIGKILL)
                killed.append(process.pid)
                return

    killed: list[int] = []
    thread = threading.Thread(target=kill, daemon=True)
    thread.killed = killed  # type: ignore[attr-defined]
    return thread


@pytest.mark.slow
def test_a_ray_cluster_makes_the_same_rows_though_a_worker_is_killed(made: tuple[Path, Path, RunResult], home: Path) -> None:
    ray = pytest.importorskip("ray", reason="needs Ray, some 80 MB: pip install 'melp-bench[ray]'")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        board = home / "board"
        killer = worker_killed(lambda: len(list(board.glob("results/*/*.json"))) > 0)
        killer.start()
        result = carry_out(make_spec(made[1], out=board, jobs=2, on="ray"), CATALOGUE)
        killer.join(timeout=10)
    finally:
        ray.shutdown()
    assert killer.killed, "no worker was at work"  # type: ignore[attr-defined]
    assert result.failures == ()
    assert outcomes(result) == outcomes(made[2])


def test_the_worst_records_are_drawn_where_their_store_is(made: tuple[Path, Path, RunResult], tmp_path: Path) -> None:
    words = ["results", "worst", "synthetic/super", "--results", str(made[2].board / "results"), "-n", "2"]
    assert _run([*words, "--out", str(tmp_path / "worst")], verbose=False) == 0
    assert (tmp_path / "worst" / "index.html").read_text(encoding="utf-8").count("data:image/png;base64,") == 2
