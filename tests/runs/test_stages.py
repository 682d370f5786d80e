"""What a run tells while it works, and how names become methods."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import melp_bench as mb
from melp_bench.checkpoint import is_checkpoint
from melp_bench.cli.screen import Screen
from melp_bench.plugins import Catalogue, discover
from melp_bench.progress import Advance
from melp_bench.protocol import Pretrain, Protocol
from melp_bench.results import read_result
from melp_bench.runs.candidates import Candidate, candidate, file_name
from melp_bench.runs.cells import Failure
from melp_bench.runs.execute import execute, records_per_second
from melp_bench.runs.plan import make_plan
from melp_bench.runs.references import parse
from melp_bench.runs.stores import open_stores
from melp_bench.runs.training import make_fabric


def named(text: str, catalogue: Catalogue, **asked: Any) -> Candidate:
    return candidate(parse(text, catalogue), catalogue, **asked)


class Notes:
    """A listener that writes everything down."""

    def __init__(self) -> None:
        self.stages: dict[str, list[tuple[int, int]]] = {}
        self.said: list[str] = []

    @contextmanager
    def stage(self, what: str, unit: str) -> Iterator[Advance]:
        seen = self.stages.setdefault(what, [])
        yield lambda done, total, note: seen.append((done, total))

    def say(self, text: str) -> None:
        self.said.append(text)


PROBE = {"fractions": [0.5, 1.0], "seeds": [0], "epochs": 2}
PROTOCOL = Protocol.model_validate(
    {
        "name": "tiny",
        "revision": 1,
        "summary": "for tests",
        "datasets": {"s": {"dataset": "synthetic", "options": {"num_records": 120, "seed": 2}}},
        "pretrain": {"dataset": "s", "steps": 2, "batch_size": 8},
        "interval": {"resamples": 10},
        "evaluations": [
            {"name": "linear_probe", "tasks": ["s/super"], "options": PROBE},
            {"name": "zero_shot", "tasks": ["s/super"]},
        ],
    }
)


def test_every_stage_reaches_its_end_and_a_second_run_begins_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path))
    catalogue, notes = discover(), Notes()
    stores = open_stores(PROTOCOL, catalogue, notes, workers=1)
    small = {"encoder.layers": "1"}
    methods = [
        named(m, catalogue, settings=small, pretrain=PROTOCOL.pretrain, stores=stores, checkpoints=tmp_path / "c")
        for m in ("simclr", "random-init")
    ]
    plan = make_plan(PROTOCOL, methods, catalogue, stores, tmp_path / "results")

    def carry_out() -> list[Failure]:
        return execute(plan, catalogue, fabric=make_fabric("cpu", "32"), listener=notes, features=tmp_path / "features")

    assert carry_out() == []
    written = [path for path in (tmp_path / "results" / PROTOCOL.name).iterdir() if path.suffix == ".json"]
    names = [f"{kind} {m.label}" for m in methods for kind in ("pretrain", "embed")]
    assert set(notes.stages) == {"corpus synthetic", "evaluate", *names} - {f"pretrain {methods[1].label}"}
    for what, seen in notes.stages.items():
        done = [d for d, _ in seen]
        assert done == sorted(done), what
        assert done[0] == 0, what
        assert seen[-1][0] == seen[-1][1] > 0, what
    assert {done for done, _ in notes.stages["evaluate"]} == {0, *range(2, 7)}  # two rows fit no model, and cost nothing
    assert len(notes.said) == 1
    assert f"best   {methods[0].label}  step 2, validation loss " in notes.said[0]
    assert sorted(written) == sorted(row.path(plan.results, PROTOCOL) for row in plan.rows)
    zero_shot = [read_result(path) for path in written if read_result(path).evaluation == "zero_shot"]
    assert [(row.status, row.reason) for row in zero_shot] == [("not-applicable", "needs a text encoder")] * 2
    notes.stages.clear()
    assert carry_out() == []
    assert plan.missing() == []
    assert not notes.stages


def test_a_stage_within_a_stage_has_a_line_of_its_own_when_it_is_over() -> None:
    text = io.StringIO()
    screen = Screen(Console(file=text, width=80, force_terminal=False))
    with screen.stage("outer", "rows") as outer:
        outer(0, 2, "")
        with screen.stage("inner", "rec") as inner:
            inner(7, 7, "")
        outer(2, 2, "")
    with screen.stage("after", "rows") as after:
        after(1, 1, "")
    lines = text.getvalue().splitlines()
    assert [line.split()[:2] for line in lines] == [["inner", "7/7"], ["outer", "2/2"], ["after", "1/1"]]


def test_an_error_leaves_the_line_or_bar_of_what_began_and_no_other() -> None:
    for terminal in (False, True):
        text = io.StringIO()
        screen = Screen(Console(file=text, width=80, force_terminal=terminal, color_system=None))
        with pytest.raises(ValueError, match="early"), screen.stage("never", "rows"):
            raise ValueError("early")
        assert "never" not in text.getvalue().split("\x1b[2K")[-1]
        with pytest.raises(ValueError, match="late"), screen.stage("begun", "rows") as advance:
            _begin_and_fail(advance)
        assert "3/9" in text.getvalue()


def _begin_and_fail(advance: Advance) -> None:
    advance(3, 9, "")
    raise ValueError("late")


def test_speed_is_the_median_of_batches_of_sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    from melp_bench.runs import execute as module

    class Encoder(mb.ECGEncoder):
        spec, width = mb.SignalSpec(rate_hz=50, seconds=1), 4

        def __init__(self) -> None:
            super().__init__()
            self.linear, self.sizes = nn.Linear(12, 4), []

        def forward(self, signal: Tensor) -> mb.Features:
            self.sizes.append(len(signal))
            pooled = self.linear(signal.mean(dim=-1))
            return mb.Features(pooled, pooled)

    from melp_bench.model import Model

    clock = iter([0.4, 0.1, 0.5])
    monkeypatch.setattr(module, "time_calls", lambda call, *, repeats, warmup, device: [next(clock) for _ in range(repeats)])
    assert records_per_second(Model(Encoder()), torch.device("cpu")) == round(16 / 0.3, 1)
    monkeypatch.undo()
    model = Model(Encoder())
    assert records_per_second(model, torch.device("cpu")) > 0
    assert set(model.encoder.sizes[1:]) == {16}  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize("name", ["../../etc", "a/b", "x (encoder.layers=1, text.path=/a/../b)", "...", "", "melp+resnet1d-18"])
def test_a_recipes_name_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{file_name(name)}-0"
    assert path.parent == tmp_path
    assert path.resolve().is_relative_to(tmp_path.resolve())
    assert not path.name.startswith(".")


def test_weights_are_known_by_what_they_depend_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path))
    catalogue = discover()
    stores = open_stores(PROTOCOL, catalogue, Notes(), workers=1)
    assert PROTOCOL.pretrain is not None

    def identity(name: str, settings: dict[str, str] | None = None, **changes: object) -> dict[str, object]:
        budget = Pretrain.model_validate(PROTOCOL.pretrain.model_dump() | changes)  # type: ignore[union-attr]
        return named(name, catalogue, settings=settings or {}, pretrain=budget, stores=stores, checkpoints=tmp_path).identity

    plain = identity("simclr")
    assert identity("simclr") == plain
    for other in (
        identity("simclr", steps=3),
        identity("simclr", seed=1),
        identity("simclr", batch_size=16),
        identity("simclr", {"encoder.dropout": "0.3"}),
        identity("simclr", {"optimiser.weight_decay": "0.3"}),
        identity("simclr", labels="super"),
        identity("merl"),
    ):
        assert other != plain
    assert identity("random-init", steps=3) == identity("random-init")
    assert "data" not in identity("random-init")
    assert plain["data"] == stores["s"].fingerprint
    assert not is_checkpoint(tmp_path)


def test_prompts_count_only_where_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path))
    catalogue = discover()
    stores = open_stores(PROTOCOL, catalogue, Notes(), workers=1)
    method = named("simclr", catalogue, settings={}, pretrain=PROTOCOL.pretrain, stores=stores, checkpoints=tmp_path)

    def keys() -> dict[str, str]:
        plan = make_plan(PROTOCOL, [method], catalogue, stores, tmp_path / "results")
        return {str(row): row.inputs.key for row in plan.rows}

    before, task = keys(), stores["s"].tasks["super"]
    stores["s"].tasks["super"] = replace(task, prompts={})
    moved = {cell for cell, key in keys().items() if key != before[cell]}
    assert moved == {"zero_shot s/super"}
    stores["s"].tasks["super"] = replace(task, members=dict(list(task.members.items())[1:]))
    assert all(key != before[cell] for cell, key in keys().items())
