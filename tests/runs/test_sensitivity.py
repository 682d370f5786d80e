"""Defects toggled alone: what is compared with what, on known rows and from the command to the page."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from melp_bench.board.score_moves import Move, MovesPage, plot, render_markdown_page, render_page, render_rows
from melp_bench.cli import _run
from melp_bench.defects import defects
from melp_bench.errors import UserError
from melp_bench.measure import pack, unpack
from melp_bench.metrics.paired import Difference
from melp_bench.plugins import discover
from melp_bench.protocol import Protocol
from melp_bench.results import MetricLabel, Outcome, ResultRecord, Score, read_results
from melp_bench.runs.measurements import measurements
from melp_bench.runs.sensitivity import EVERY, move_between
from melp_bench.runs.toggles import defects_of, toggled
from melp_bench.signal import Scaling, SignalSpec
from melp_bench.store import Store, prepare

SCALED = SignalSpec(scaling=Scaling.MINMAX_RECORD)
BASE: dict[str, Any] = {
    "name": "base",
    "revision": 1,
    "summary": "",
    "datasets": {"s": {"dataset": "synthetic"}, "l": {"dataset": "synthetic", "split": "cross-validate"}},
    "pretrain": {"dataset": "s", "steps": 1, "seeds": {"melp": 3}},
    "models": ["melp"],
    "evaluations": [
        {"name": "linear_probe", "tasks": ["s/super", "s/rhythm"], "options": {"fractions": [0.1, 1.0]}},
        {"name": "transfer", "tasks": ["s/super->l/super"], "options": {"class_map": {"s/super->l/super": {"MI": "MI"}}}},
    ],
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Store]:
    made, root = discover().datasets["synthetic"].build(num_records=60, seed=0), tmp_path_factory.mktemp("synthetic")
    store = prepare(made, name="synthetic", source=None, root=root / "store", workers=1)
    return {"s": store, "l": store}


def of(stores: dict[str, Store], *names: str, spec: SignalSpec | None = SCALED, **more: Any) -> Any:
    return toggled(Protocol.model_validate({**BASE, **more}), names, stores, spec)


# ---------------------------------------------------------------------------------------------------- what is compared


def test_all_that_is_toggled_is_one_valid_protocol_whose_rows_belong_together(stores: dict[str, Store]) -> None:
    found = of(stores, *EVERY)
    whole = Protocol.model_validate(found.protocol.model_dump())
    assert (whole.name, whole.models, whole.pretrain and whole.pretrain.seeds) == ("base-by-defect", [], {})
    planned = {str(row) for row in measurements(whole, discover())}
    assert len(planned) == len(measurements(whole, discover()))
    for toggle in found.toggles:
        before, after = (
            measurements(found.protocol.model_copy(update={"evaluations": [use]}), discover())
            for use in (toggle.before, toggle.after)
        )
        assert len(before) == len(after) > 0
        for one, two in zip(before, after, strict=True):
            assert one.name == two.name
            assert two.measurement.task.replace(f"+{toggle.defect.name}", "") == one.measurement.task
            same = one.key_inputs == two.key_inputs and one.measurement.task == two.measurement.task
            assert same == (toggle.defect.name.endswith("-subset") and one.measurement.options["fraction"] == 1.0)


def test_a_defect_of_an_evaluation_changes_its_options_and_one_of_a_dataset_its_use(stores: dict[str, Store]) -> None:
    (softmax,) = of(stores, "softmax-scoring").toggles
    assert (softmax.before.options, softmax.after.options) == (
        {"fractions": [0.1, 1.0]},
        {"fractions": [0.1, 1.0], "scoring": "softmax"},
    )
    found = of(stores, "first-5-seconds")
    probe, transfer = found.toggles
    assert probe.before.tasks == ["s/super", "s/rhythm"]
    assert probe.after.tasks == ["s+first-5-seconds/super", "s+first-5-seconds/rhythm"]
    assert transfer.after.tasks == ["s+first-5-seconds/super->l+first-5-seconds/super"]
    assert transfer.after.options["class_map"] == {transfer.after.tasks[0]: {"MI": "MI"}}
    assert found.protocol.datasets["s+first-5-seconds"].seconds == 5.0
    assert found.protocol.datasets["l+first-5-seconds"].split == "cross-validate"
    moved, source = of(stores, "positional-columns").toggles
    assert moved.before.tasks == ["s/super"]  # the only task with a circle of classes
    assert source.after.tasks == ["s+positional-columns/super->l/super"]  # a cross-validated target has no training columns


def test_a_metric_is_measured_alone_on_both_sides_so_that_it_is_primary(stores: dict[str, Store]) -> None:
    toggle = of(stores, "test-thresholds").toggles[0]
    assert [one.model_dump() for one in toggle.before.metrics] == [{"name": "max-f1", "options": {}}]
    assert [one.model_dump() for one in toggle.after.metrics] == [{"name": "max-f1", "options": {"thresholds": "test"}}]


def test_where_a_defect_changes_nothing_it_is_not_measured_and_the_reason_is_told(stores: dict[str, Store]) -> None:
    names = ["softmax-scoring", "padding-before-scaling", "positional-columns", "substring-labels"]
    idle = {(name, task): why for name, task, why in of(stores, *names).idle}
    assert idle["padding-before-scaling", "s/super"] == "no record is shorter than 10 s"
    assert "split by 'cross-validate' has no moved columns to change" in idle["positional-columns", "l/super"]
    assert idle["substring-labels", "s/super"] == "no name of a class is found within another statement's"
    longer = of(stores, "padding-before-scaling", spec=replace(SCALED, seconds=12.0))
    assert longer.toggles
    assert not longer.idle
    with pytest.raises(
        UserError, match="measures nothing that padding-before-scaling would change: the encoder is given milli"
    ):
        of(stores, "padding-before-scaling", spec=SignalSpec(seconds=12.0))


def test_several_defects_are_one_where_their_names_are_joined(stores: dict[str, Store]) -> None:
    both = defects_of("first-5-seconds+padding-before-scaling")
    assert both.of_dataset("anything") == {"seconds": 5.0, "padding": "before-scaling"}
    found = of(stores, both.name)
    assert found.protocol.datasets[f"s+{both.name}"].padding == "before-scaling"
    assert defects_of("softmax-scoring") is defects()["softmax-scoring"]
    with pytest.raises(UserError, match="no defect named 'softmax'"):
        defects_of("first-5-seconds+softmax")


# -------------------------------------------------------------------------------------------------------------- moves


def record(value: float, resampled: np.ndarray, **more: Any) -> ResultRecord:
    label = MetricLabel(label="macro AUROC")
    outcome = Outcome(
        scores={"auroc": Score(value=value, low=0.0, high=1.0)},
        metrics={"auroc": label},
        primary="auroc",
        resamples={"origin": str(value), "values": pack(resampled)},
        details={"records": 40, "patients": 20},
    )
    inputs = {
        "model": {}, "evaluation": {}, "task": "s/x", "tasks": {}, "datasets": {"s": "f"},
        "interval": {"level": 0.95, "resamples": len(resampled), "seed": 0},
    }  # fmt: skip
    fields: dict[str, Any] = {
        "key": "k", "inputs": inputs, "protocol": "p", "protocol_revision": 1, "protocol_hash": "h", "model": "m",
        "evaluation": "linear_probe", "evaluation_version": 1, "task": "s/x", "generated": False, "status": "scored",
        "outcome": outcome,
    }  # fmt: skip
    return ResultRecord.model_validate({**fields, **more})


def test_a_move_is_with_minus_without_and_its_interval_is_that_of_paired_resamples() -> None:
    generator = np.random.default_rng(0)
    hard = generator.normal(0.8, 0.05, 500)  # which patients were drawn: common to both
    one, two = record(0.80, hard), record(0.83, hard + 0.03)
    move = move_between("d", "100 %", one, two)
    assert move.difference is not None
    assert move.difference.value == pytest.approx(0.03)
    assert (move.difference.low, move.difference.high) == pytest.approx((0.03, 0.03), abs=1e-6)  # what is hard cancels
    assert move.told == "3.0 [3.0, 3.0]"
    shuffled = move_between("d", "", one, record(0.83, generator.permutation(hard) + 0.03))
    assert shuffled.difference is not None
    expected = np.quantile(unpack(pack(generator.permutation(hard) - hard)), 0.025)
    assert shuffled.difference.low < 0 < shuffled.difference.high
    assert expected < 0


def test_without_the_same_records_there_is_no_interval_and_without_scores_a_reason() -> None:
    values = np.full(10, 0.8)
    other = record(0.9, values).model_copy(deep=True)
    assert other.outcome is not None
    other.outcome.details["records"] = 39
    move = move_between("d", "", record(0.8, values), other)
    assert move.told == "10.0"
    assert "no interval" in move.note
    missing = record(0.8, values, status="not-applicable", outcome=None, reason="needs tokens")
    assert move_between("d", "", record(0.8, values), missing).note == "not applicable in the second: needs tokens"
    assert move_between("d", "", missing, missing).note == "not applicable: needs tokens"


# --------------------------------------------------------------------------------------------------------------- page

LABEL = MetricLabel(label="macro AUROC")
HOSTILE = "<script>|x|`y`\u202eevil"


def page() -> MovesPage:
    scores = Score(value=0.8, low=0.7, high=0.9), Score(value=0.75, low=0.65, high=0.85)
    rows = (
        Move("one", "probe", "s/x", "1 %", LABEL, *scores, Difference(-0.05, -0.08, -0.01, 0.01), (5, 4)),
        Move(
            "one", "probe", HOSTILE, "", LABEL, *scores, Difference(0.01, -math.inf, math.inf, 1.0), (5, 5), note="no interval"
        ),
        Move("two", "probe", "=cmd()", "", note="not applicable: needs text", generated=True),
    )
    summaries = {"one": "softmax <b>", "two": "test", "unused": "nothing"}
    return MovesPage(HOSTILE, "p (rev 1)", rows, (("two", "s/y", "no & record"),), summaries)


def test_the_page_says_everything_and_takes_nothing_for_markup() -> None:
    html, text = render_page(page()), render_markdown_page(page())
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "\u202e" not in html + text
    assert "<strong>−5.0 [−8.0, −1.0]</strong>" in html
    assert "**−5.0 [−8.0, −1.0]**" in text
    assert "mean over 4 classes, not 5" in html
    assert "needs text" in text
    assert "unused" not in html
    assert html.count("<circle") == 2
    assert len(html.encode()) < 200_000


def test_the_table_holds_the_numbers_as_they_are() -> None:
    one, two, three = csv.DictReader(render_rows(page()).splitlines())
    assert (float(one["difference"]), float(one["difference_low"]), float(one["difference_high"])) == (-0.05, -0.08, -0.01)
    assert (two["difference_low"], two["difference_high"]) == ("", "")
    assert three["task"] == "'=cmd()"
    assert (three["with"], three["note"]) == ("", "not applicable: needs text")


def test_the_plot_puts_zero_in_the_middle_and_all_within() -> None:
    rows = page().rows
    drawn = plot(rows[:2], rows)
    assert drawn.zero == pytest.approx(drawn.width / 2)
    assert [bar.x < drawn.zero for bar in drawn.bars] == [True, False]
    assert all(0 <= place <= drawn.width for bar in drawn.bars for place in (bar.low, bar.x, bar.high))
    assert [bar.separable for bar in drawn.bars] == [True, False]
    assert plot(rows[2:], rows[2:]).bars == ()


# ------------------------------------------------------------------------------------------------------- end to end

TINY = """
name = "tiny"
revision = 1
summary = "for tests"

[datasets.synthetic]
dataset = "synthetic"
options = { num_records = 80, seed = 0 }

[pretrain]
dataset = "synthetic"
steps = 1

[interval]
resamples = 20

[[evaluations]]
name = "linear_probe"
tasks = ["synthetic/super"]
options = { fractions = [0.5, 1.0], seeds = [0], epochs = 3 }
"""


def test_the_command_measures_writes_and_finds_its_rows_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "home"))
    path, out = tmp_path / "tiny.toml", tmp_path / "out"
    path.write_text(TINY, encoding="utf-8")

    def call(*more: str) -> str:
        arguments = ["sensitivity", "random-init", "-p", str(path), "--set", "encoder.layers=1", "--device", "cpu", *more]
        assert _run([*arguments, "--workers", "1", "--out", str(out)], verbose=False) == 0
        return capsys.readouterr().out

    names = ["softmax-scoring", "first-5-seconds", "test-thresholds", "head-subset"]
    chosen = [word for name in names for word in ("--defect", name)]
    assert "synthetic+first-5-seconds/super" in call(*chosen, "--dry-run")
    assert not (tmp_path / "home" / "stores").exists()
    text = call(*chosen)
    assert all(name in text for name in names)
    (table,) = (out / "sensitivity").glob("*.csv")
    moves = {(row["defect"], row["setting"]): row for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines())}
    assert ("head-subset", "50 %") in moves
    assert ("head-subset", "100 %") not in moves  # all labels are one set
    flattered = [float(row["difference"]) for (name, _), row in moves.items() if name == "test-thresholds"]
    assert len(flattered) == 2
    assert min(flattered) >= 0
    assert {row["metric"] for (name, _), row in moves.items() if name == "test-thresholds"} == {"macro F1"}
    assert all(row["difference_low"] for row in moves.values())
    assert {ending.suffix for ending in (out / "sensitivity").iterdir()} == {".md", ".csv", ".html"}
    rows = len(list(read_results(out / "results")))
    assert f"0 rows to compute, {rows} cached" in call(*chosen)


def test_what_cannot_be_toggled_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path))
    assert _run(["sensitivity", "random-init", "--defect", "nothing", "--dry-run"], verbose=False) == 2
    assert "no defect named 'nothing'" in capsys.readouterr().err


def test_a_wrong_model_is_told_before_a_corpus_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path / "home"))
    assert _run(["sensitivity", "melpp", "-p", "sensitivity-demo"], verbose=False) == 2
    assert "no recipe, ECG encoder or checkpoint folder named 'melpp'" in capsys.readouterr().err
    assert not list(tmp_path.glob("home/stores/*"))
