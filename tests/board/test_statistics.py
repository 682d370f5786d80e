"""What a board says beyond its tables, as data and as text."""

from __future__ import annotations

import json

import numpy as np
import pytest
from board_rows import row, score

from melp_bench.board import board_files
from melp_bench.board.arrangement import build_board
from melp_bench.board.deviations import deviations
from melp_bench.board.reported import reported_for
from melp_bench.measure import pack
from melp_bench.metrics.paired import holm
from melp_bench.results import Resamples, ResultRecord

HOSTILE = '<script>alert("x")</script>|\\input{x}_$ \u202e🫀'


def rows_on(tasks: tuple[str, ...], models: dict[str, float]) -> list[ResultRecord]:
    rows = []
    for task in tasks:
        shared = np.random.default_rng(len(task)).normal(0, 0.03, 200)
        for number, (model, value) in enumerate(models.items()):
            kept = pack(value + shared + np.random.default_rng(number).normal(0, 0.01, 200))
            rows.append(row(model, task=task, auroc=score(value, 0.06), resamples=Resamples(origin=task, values=kept)))
    return rows


def test_the_data_hold_every_pair_with_the_p_value_for_their_number() -> None:
    rows = rows_on(("d/super", "d/rhythm"), {"a": 0.9, "b": 0.88, "c": 0.87, HOSTILE: 0.5})
    (section,) = json.loads(board_files(rows)["statistics.json"])
    (pairs,) = [found["pairs"] for found in section["pairs"] if found["task"] == "d/super"]
    assert len(pairs) == 6
    assert [pair["adjusted_p"] for pair in pairs] == pytest.approx(holm([pair["p"] for pair in pairs]), rel=1e-5)
    assert all(pair["low"] <= pair["value"] <= pair["high"] for pair in pairs)
    assert section["ranks"][0]["methods"][0]["label"] == "a"
    assert section["ranks"][0]["win_rates"][0][1:] == [1.0, 1.0, 1.0]


def test_ranks_are_in_the_text_and_in_latex_and_hostile_names_are_letters() -> None:
    files = board_files(rows_on(("d/super", "d/rhythm"), {"a": 0.9, HOSTILE: 0.5}))
    told, tex = files["README.md"].decode(), files["board.tex"].decode()
    assert "| a | 1.00 [1.00, 1.00] | 1 | a | 100 % | 2 of 2 |" in told
    assert "<script" not in told
    assert "Ranks over" in tex
    assert "\\input{x}" not in tex
    assert tex.count("{") - tex.count("\\{") == tex.count("}") - tex.count("\\}")


def test_missing_cells_are_counted_and_named_in_the_text() -> None:
    rows = rows_on(("d/super", "d/rhythm"), {"a": 0.9, "b": 0.8})
    rows += rows_on(("d/super",), {"c": 0.7})
    told = board_files(rows)["README.md"].decode()
    assert "1 of 2 ⚠" in told
    assert "⚠ missing: c (d/rhythm)." in told


def test_a_board_of_one_measurement_or_one_method_has_no_ranks() -> None:
    for rows in (rows_on(("d/super",), {"a": 0.9, "b": 0.8}), rows_on(("d/super", "d/sub"), {"a": 0.9})):
        assert "Ranks over" not in board_files(rows)["README.md"].decode()


def test_what_papers_report_of_a_method_stands_beside_what_was_measured_of_its_recipes() -> None:
    rows = [
        row("merl-2024", "linear_probe", "ptb-xl/super", "1 %", auroc=score(0.80, 0.02)),
        row("merl+resnet1d-18", "linear_probe", "ptb-xl/super", "1 %", auroc=score(0.75, 0.02)),
        row("vicreg", "linear_probe", "ptb-xl/super", "1 %", auroc=score(0.70, 0.02)),
    ]
    (section,) = build_board(rows)
    found = {(one.method, one.source): one for one in deviations(section)}
    assert {method for method, _ in found} == {"merl-2024", "merl+resnet1d-18"}
    merl = [cell for cell in reported_for("linear_probe", "1 %", "ptb-xl/super", "auroc") if cell.method == "MERL"]
    assert len(merl) == 2
    for cell in merl:
        assert found["merl-2024", cell.source].deviation == pytest.approx(cell.value - 0.80)
    told = board_files(rows)["README.md"].decode()
    assert "### Reported and measured" in told
    assert "| _0.824_ reported | 0.800 [0.780, 0.820] | 2.4 |" in told
    assert not deviations(build_board([r.model_copy(update={"generated": True}) for r in rows])[0])
