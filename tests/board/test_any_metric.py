"""A board knows no metric and no evaluation: what it says of them stands in the rows."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from board_rows import row, score
from rich.console import Console

import melp_bench.board
from melp_bench.board import board_files, terminal_tables
from melp_bench.board.arrangement import build_board
from melp_bench.board.card import class_rows
from melp_bench.board.plots import pareto, span
from melp_bench.plugins import discover
from melp_bench.results import ClassScore, MetricLabel, Outcome, ResultRecord, Score

YEARS = MetricLabel(label="age error (years)", higher_is_better=False, bounds=(0.0, None))
GAIN = MetricLabel(label="log gain", bounds=(None, None))
ERRORS = {"melp": 4.2, "merl": 5.9, "random-init": 17.25}


def outcome(value: float, half: float = 0.4) -> Outcome:
    classes = [
        ClassScore(name=name, positives=90, records=90, scores={"years": interval(value * factor, half)})
        for name, factor in (("young", 0.5), ("old", 1.5))
    ]
    return Outcome(
        scores={"years": interval(value, half), "gain": interval(-1000 * value, 80)},
        metrics={"years": YEARS, "gain": GAIN, "top": MetricLabel(label="top-1 hits")},
        primary="years",
        classes=classes,
        not_measured={"top": "needs a gallery"},
    )


def interval(value: float, half: float) -> Score:
    return Score(value=value, low=value - half, high=value + half)


def guessed(model: str, value: float, half: float = 0.4) -> ResultRecord:
    return row(
        model,
        "age_guess",
        "ptb-xl/age",
        "blindfolded",
        outcome=outcome(value, half),
        label="guessing of ages",
        facts={"records_per_second": 100 * value},
    )


@pytest.fixture(scope="module")
def rows() -> list[ResultRecord]:
    return [*(guessed(model, value) for model, value in ERRORS.items()), row("other", auroc=score(0.9, 0.02))]


@pytest.fixture(scope="module")
def files(rows: list[ResultRecord]) -> dict[str, str]:
    return {name: content.decode() for name, content in board_files(rows).items()}


def test_the_lowest_error_leads_on_every_board(rows: list[ResultRecord], files: dict[str, str]) -> None:
    (table,) = [table for table in build_board(rows)[0].tables if table.title == "ptb-xl/age"]
    assert [method.label for method in table.methods] == ["melp", "merl", "random-init"]
    ranks = {m.label: table.columns[0].cells[m.anchor].standings["years"].rank for m in table.methods}
    assert ranks == {"melp": 1, "merl": 2, "random-init": 3}
    assert "| **4.200** [3.800, 4.600]" in files["README.md"]
    assert "Ranked by age error (years), lower is better. In index.html and board.csv also: log gain." in (files["README.md"])
    assert r"\textbf{4.200}" in files["board.tex"]
    assert "age error (years), lower is better, with bootstrap interval" in files["board.tex"]
    assert "guessing of ages blindfolded" in files["README.md"]
    lines = {line["model"]: line for line in csv.DictReader(io.StringIO(files["board.csv"])) if line["task"] == "ptb-xl/age"}
    assert [lines[m]["rank"] for m in ERRORS] == ["1", "2", "3"]
    assert {(line["ranked_by"], line["higher_is_better"]) for line in lines.values()} == {("years", "false")}
    assert float(lines["random-init"]["gain_low"]) == -17330
    assert lines["melp"]["not_measured"] == "top: needs a gallery"


def test_the_page_holds_every_metric_and_a_choice_of_them(files: dict[str, str]) -> None:
    page = files["index.html"]
    chosen = re.findall(r'data-choose="([^"]*)" aria-pressed="(\w+)">([^<]*)<', page)
    assert chosen == [
        ("", "true", "as ranked"),
        ("years", "false", "age error (years), lower is better"),
        ("gain", "false", "log gain"),
        ("top", "false", "top-1 hits"),
        ("auroc", "false", "macro AUROC"),
        ("auprc", "false", "macro AUPRC"),
    ]
    shown = re.findall(r'<div class="m" data-metric="(\w+)" (data-primary|hidden) data-value="([-.\d]+)"', page)
    assert ("years", "data-primary", "4.2") in shown
    assert ("gain", "hidden", "-4200.0") in shown
    assert ("auroc", "data-primary", "0.9") in shown
    assert 'data-better="lower"' in page
    assert 'aria-sort="ascending"' in page
    assert "not measured: needs a gallery" in page
    assert "guessing of ages blindfolded: no top-1 hits: it needs a gallery" in page


def test_where_one_metric_ranks_everything_it_is_chosen_at_first() -> None:
    page = board_files([row("a", auroc=score(0.9, 0.02))])["index.html"].decode()
    assert re.findall(r'data-choose="([^"]*)" aria-pressed="true"', page) == ["auroc"]


def test_the_terminal_cuts_no_number_however_long() -> None:
    long = [guessed("a-model-with-a-rather-long-name", 123456.789, 12345.678), guessed("b", 4.2)]
    console = Console(width=80, file=io.StringIO(), force_terminal=False)
    for table in terminal_tables(long):
        console.print(table)
    for table in terminal_tables(long, "gain"):
        console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 80
    assert "guessing of ages blindfolded · ptb-xl/age · age error (years), lower is better" in text
    assert re.search(r"^ +2 +a-model-with.* 123,457 \[111,111, 135,802\]", text, re.M)
    assert re.search(r"^ +1 +b +4.200 \[3.800, 4.600\]", text, re.M)
    assert re.search(r"^ +1 +b +-4200 \[-4280, -4120\]", text, re.M)


def test_bars_scale_to_the_bounds_there_are_and_to_the_numbers_where_there_are_none() -> None:
    assert span([interval(0.3, 0.5)], YEARS)[0] == pytest.approx(-0.2)  # a bound that a number breaks hides nothing
    for low, high in [(0.1, 17.0), (3.0, 3.0), (0.0, 0.0), (1e-7, 3e-7), (1e6, 1.2e6)]:
        bottom, top = span([Score(value=low, low=low, high=high)], YEARS)
        assert 0 <= bottom <= low <= high <= top
        assert top > bottom
        assert top - bottom <= 3 * max(high - low, high / 5, 0.5 if high == 0 else 0)
    bottom, top = span([Score(value=-1200.0, low=-1300.0, high=-900.0)], GAIN)
    assert bottom <= -1300 <= -900 <= top <= 0


def test_the_weakest_class_is_the_one_with_the_largest_error(rows: list[ResultRecord]) -> None:
    (table,) = [table for table in build_board(rows)[0].tables if table.title == "ptb-xl/age"]
    assert [entry.name for entry in class_rows(table.columns[0], table)] == ["old", "young"]


def test_the_front_is_of_the_fast_and_the_low(rows: list[ResultRecord]) -> None:
    (table,) = [table for table in build_board(rows)[0].tables if table.title == "ptb-xl/age"]
    plot = pareto(table)
    assert plot is not None
    assert plot.better == "down"
    assert {label.text: on for label, on in zip(plot.labels, plot.on_front, strict=True)} == dict.fromkeys(ERRORS, True)
    slow_and_wrong = guessed("slow", 30.0).model_copy(update={"facts": {"records_per_second": 1}})
    worse = pareto(build_board([*rows[:3], slow_and_wrong])[0].tables[0])
    assert worse is not None
    assert {label.text: on for label, on in zip(worse.labels, worse.on_front, strict=True)}["slow"] is False


def test_columns_that_are_ranked_by_different_metrics_say_by_which() -> None:
    rows = [guessed("melp", 4.2), row("melp", "zero_shot", "ptb-xl/age", auroc=score(0.9, 0.02))]
    (table,) = build_board(rows)[0].tables
    labels = ["zero-shot (macro AUROC)", "guessing of ages blindfolded (age error (years), lower is better)"]
    assert [column.label for column in table.columns] == labels
    assert table.ranked_by == "the metric that each column names"


def test_a_class_that_a_metric_leaves_out_is_named() -> None:
    scored = outcome(4.0)
    young, old = scored.classes
    fewer = scored.model_copy(update={"classes": [young, old.model_copy(update={"scores": {}})]})
    (table,) = build_board([row("a", outcome=fewer)])[0].tables
    assert table.exclusions == ["zero-shot: not in the mean of age error (years), which is not defined of them here: old"]


def test_first_party_metrics_beyond_the_usual_two_come_to_every_board() -> None:
    names = ("ece", "brier", "sensitivity-at-specificity")
    built = [discover().metrics[name].build() for name in names]
    from melp_bench.measure import label_of

    metrics = {metric.name: label_of(metric) for metric in built}
    rows = [
        row(model, outcome=Outcome(scores=dict.fromkeys(names, score(value, 0.02)), metrics=metrics, primary="ece"))
        for model, value in (("good", 0.05), ("bad", 0.3))
    ]
    (table,) = build_board(rows)[0].tables
    assert [method.label for method in table.methods] == ["good", "bad"]
    best = {name: [table.columns[0].cells[m.anchor].standings[name].rank for m in table.methods] for name in names}
    assert best == {"ece": [1, 2], "brier": [1, 2], "sensitivity-at-specificity": [2, 1]}
    page = board_files(rows)["index.html"].decode()
    assert all(label.label in page for label in metrics.values())
    assert set(csv.DictReader(io.StringIO(board_files(rows)["board.csv"].decode())).fieldnames or ()) >= set(names)


def test_no_metric_no_evaluation_and_no_method_is_named_in_the_code_of_boards() -> None:
    catalogue = discover()
    names = {entry.name for registry in (catalogue.metrics, catalogue.evaluations) for entry in registry}
    names |= {"AUROC", "AUPRC", "melp"}
    folder = Path(melp_bench.board.__file__).parent
    files = [path for path in folder.iterdir() if path.suffix in (".py", ".j2", ".js", ".css")]
    assert len(files) > 10
    for path in files:
        text = re.sub(r"melp[-_]bench", "", path.read_text(encoding="utf-8"))
        assert [name for name in names if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)] == [], path.name
