"""Curves over what an evaluation varies: which columns are of one family, and that each point stands at its level."""

from __future__ import annotations

import math
import re

import pytest
from board_rows import row, score

from melp_bench.board import board_files
from melp_bench.board.arrangement import build_board
from melp_bench.board.level_curves import LevelCurves, level_curves, level_of
from melp_bench.board.plots import DRAWN
from melp_bench.results import ResultRecord

LEVELS = {24: 0.90, 12: 0.84, 0: 0.70, -6: 0.55}


def noisy(model: str, lower: float = 0.0) -> list[ResultRecord]:
    return [
        row(model, "robustness", setting=f"{name} {level} dB", auroc=score(value - lower, 0.03), order=order)
        for name in ("mains", "wander")
        for order, (level, value) in enumerate(LEVELS.items())
    ]


def curves(rows: list[ResultRecord]) -> list[LevelCurves]:
    (section,) = build_board(rows)
    return [curve for table in section.tables for curve in level_curves(table)]


@pytest.mark.parametrize(
    ("setting", "found"),
    [
        ("1 %", ("", 1.0, "%")),
        ("mains 24 dB", ("mains", 24.0, "dB")),
        ("mains -6 dB", ("mains", -6.0, "dB")),
        ("missing-leads 3 of 12", ("missing-leads", 3.0, "of 12")),
        ("5 per class", ("", 5.0, "per class")),
        ("last 2 layers", ("last", 2.0, "layers")),
        ("all layers", None),
        ("", None),
    ],
)
def test_a_setting_is_what_is_varied_its_level_and_unit(setting: str, found: tuple[str, float, str] | None) -> None:
    assert level_of(setting) == found


def test_each_kind_of_noise_is_a_plot_with_its_levels_from_low_to_high_and_their_scores() -> None:
    found = curves([*noisy("a"), *noisy("b", 0.1)])
    assert [one.title for one in found] == ["Mains", "Wander"]
    assert [tick.text for tick in found[0].xticks] == ["-6 dB", "0 dB", "12 dB", "24 dB"]
    first = found[0].panels[0]
    assert first.marks[0].text.startswith("-6 dB: 0.550 [0.520, 0.580]")
    ys = {round(mark.x): mark.y for mark in first.marks}
    assert [ys[x] for x in sorted(ys)] == sorted(ys.values(), reverse=True), "less noise is a better score, which is higher up"
    steps = [b.at - a.at for a, b in zip(found[0].xticks, found[0].xticks[1:], strict=False)]
    assert steps[0] / 6 == pytest.approx(steps[1] / 12, abs=0.05), "decibels are evenly spaced"


def test_shares_of_labels_stand_on_a_logarithmic_axis() -> None:
    rows = [row("a", "linear_probe", setting=f"{share} %", auroc=score(0.8, 0.1)) for share in (1, 10, 100)]
    (found,) = curves(rows)
    first, second, third = (tick.at for tick in found.xticks)
    assert second - first == pytest.approx(third - second, abs=0.11)
    assert math.isclose(third, LevelCurves.width - 18)
    assert found.title == "Label efficiency"


def test_what_is_measured_otherwise_is_a_curve_of_its_own_and_says_so() -> None:
    rows = [
        row("a", "linear_probe", setting=f"{share} %{more}", auroc=score(0.8, 0.1))
        for share in (1, 100)
        for more in ("", " (softmax, melp)")
    ]
    found = curves(rows)
    assert {(one.title, one.evaluation) for one in found} == {
        ("Label efficiency", "linear probe"),
        ("Label efficiency", "linear probe (softmax, melp)"),
    }
    assert all([tick.text for tick in one.xticks] == ["1 %", "100 %"] for one in found)


def test_of_many_methods_the_best_at_the_last_level_have_a_panel() -> None:
    rows = [
        row(f"m{n:02d}", "linear_probe", setting=f"{share} %", auroc=score(0.5 + n / 100, 0.1))
        for share in (1, 100)
        for n in range(DRAWN + 2)
    ]
    (found,) = curves(rows)
    assert {panel.label for panel in found.panels} == {f"m{n:02d}" for n in range(2, DRAWN + 2)}
    assert all(len(panel.others) == DRAWN + 1 for panel in found.panels)
    assert found.drawn == f"the {DRAWN} best of {DRAWN + 2} methods are drawn"


def test_one_level_or_two_metrics_make_no_curve() -> None:
    assert curves([row("a", "linear_probe", setting="10 %", auroc=score(0.8, 0.1))]) == []
    groups = [row("a", "subgroups", setting=name, auroc=score(0.8, 0.1)) for name in ("age 18 to 40", "age 40 to 60")]
    assert curves(groups) == []


def test_the_page_draws_them() -> None:
    page = board_files([*noisy("a"), *noisy("b", 0.1)])["index.html"].decode()
    assert page.count("against the signal-to-noise ratio in dB") == 2
    assert len(re.findall(r'aria-label="Mains of [ab]: -6 dB: 0\.\d{3} \[', page)) == 2
