"""Where the ink goes: scales, whiskers and the Pareto front."""

from __future__ import annotations

import itertools
import random
import re

from board_rows import RANKING, realistic_rows, row, score

from melp_bench.board.arrangement import build_board
from melp_bench.board.level_curves import level_curves
from melp_bench.board.plots import curves, pareto, span
from melp_bench.board.sections import Table


def table_of(points: list[tuple[float, float]]) -> Table:
    rows = [
        row(f"m{i:02}", auroc=score(value, 0.01), facts={"records_per_second": speed})
        for i, (speed, value) in enumerate(points)
    ]
    return build_board(rows)[0].tables[0]


def test_the_front_is_what_no_other_method_beats_in_both() -> None:
    rng = random.Random(1)
    for _ in range(30):
        grid = [(float(speed), value / 100) for speed in range(1, 6) for value in range(50, 95, 9)]
        points = rng.sample(grid, rng.randint(2, 8))
        plot = pareto(table_of(points))
        assert plot is not None
        for mark, label, on in zip(plot.marks, plot.labels, plot.on_front, strict=True):
            speed, value = points[int(label.text[1:])]
            beaten = any((s >= speed and v > value) or (s > speed and v >= value) for s, v in points)
            assert on == (not beaten), mark.text


def test_speeds_close_together_or_far_apart_have_three_to_six_ticks_in_order() -> None:
    for slow, fast in [(1700.0, 2100.0), (1999.0, 2000.0), (3.0, 9.0), (1.0, 100_000.0), (12.0, 800.0)]:
        plot = pareto(table_of([(slow, 0.9), (fast, 0.8)]))
        assert plot is not None
        assert 3 <= len(plot.xticks) <= 6
        assert [tick.at for tick in plot.xticks] == sorted({tick.at for tick in plot.xticks})
        assert len({tick.text for tick in plot.xticks}) == len(plot.xticks)


def test_a_method_without_a_speed_is_not_drawn_and_one_point_is_no_plot() -> None:
    assert pareto(table_of([(10.0, 0.9)])) is None
    rows = [row("a", auroc=score(0.9, 0.01)), row("b", auroc=score(0.8, 0.01), facts={"records_per_second": True})]
    assert pareto(build_board(rows)[0].tables[0]) is None


def test_higher_scores_are_drawn_higher_and_whiskers_hold_their_point() -> None:
    plot = pareto(table_of([(10.0, 0.9), (100.0, 0.7), (1000.0, 0.8)]))
    assert plot is not None
    by_label = {label.text: mark for label, mark in zip(plot.labels, plot.marks, strict=True)}
    assert by_label["m00"].y < by_label["m02"].y < by_label["m01"].y
    assert by_label["m00"].x < by_label["m01"].x < by_label["m02"].x
    assert all(mark.high <= mark.y <= mark.low for mark in plot.marks)


def test_label_efficiency_has_a_panel_per_method_and_equal_steps_per_decade() -> None:
    (plot,) = level_curves(build_board(realistic_rows())[0].tables[0])
    assert (plot.evaluation, plot.metric) == ("linear probe", "macro AUROC")
    assert {panel.label for panel in plot.panels} == {"melp", "merl", "supervised", "simclr", "random-init"}
    steps = [b.at - a.at for a, b in itertools.pairwise(plot.xticks)]
    assert abs(steps[0] - steps[1]) < 0.2
    assert all(len(panel.marks) == 3 and len(panel.others) == 4 for panel in plot.panels)
    numbers = [float(n) for panel in plot.panels for n in re.findall(r"[\d.]+", panel.line)]
    assert all(0 <= n <= plot.width for n in numbers)


def test_a_pretraining_curve_spans_its_box_and_skips_what_is_no_number() -> None:
    history = {
        "step": [1.0, 2.0],
        "loss": [4.0, float("nan"), 2.0, 3.0],
        "short": [1.0],
        "words": ["a", "b"],
        "flat": [1.0, 1.0],
    }
    flat, loss = curves(row(auroc=score(0.8, 0.1), facts={"pretraining": {"history": history}}))
    assert (flat.name, loss.name, loss.first, loss.last) == ("flat", "loss", "4", "3")
    points = re.findall(r"([\d.]+) ([\d.]+)", loss.line)
    assert [float(x) for x, _ in points] == [2.0, 80.0, 158.0]
    assert [float(y) for _, y in points] == [3.0, 41.0, 22.0]
    assert curves(row(auroc=score(0.8, 0.1), facts={"pretraining": {"history": [1, 2]}})) == ()


def test_one_fraction_is_no_curve() -> None:
    rows = [row(m, "linear_probe", setting="1 %", auroc=score(0.8, 0.1)) for m in "ab"]
    assert level_curves(build_board(rows)[0].tables[0]) == []


def test_a_scale_holds_every_interval_and_stays_between_0_and_1() -> None:
    for low, high in [(0.0, 1.0), (0.5, 0.5), (1.0, 1.0), (0.0, 0.0), (0.613, 0.788)]:
        bottom, top = span([score((low + high) / 2, (high - low) / 2)], RANKING["auroc"])
        assert 0 <= bottom <= low <= high <= top <= 1
        assert top > bottom
