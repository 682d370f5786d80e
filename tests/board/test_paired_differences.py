"""Which methods differ: paired differences on rows whose resamples are known."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from board_rows import realistic_rows, row, score
from numpy.typing import NDArray

from melp_bench.board import board_files
from melp_bench.board.arrangement import build_board
from melp_bench.board.paired_differences import CELL, ROW, Staircase, staircases
from melp_bench.board.plots import DRAWN
from melp_bench.errors import UserError
from melp_bench.measure import measure, pack
from melp_bench.metrics.paired import paired_difference
from melp_bench.predictions import Predictions
from melp_bench.results import Interval, Resamples, ResultRecord
from melp_plugins.metrics.ranking import auroc

RESAMPLES = 400
WIDE = np.random.default_rng(0).normal(0, 0.03, RESAMPLES)  # what is hard about the patients, for every method alike


def resampled(model: str, value: float, noise: float = 0.001, origin: str = "same") -> ResultRecord:
    """Return a row whose interval is that of its resamples: `WIDE`, and a little of its own."""
    own = np.random.default_rng(len(model)).normal(0, noise, RESAMPLES)
    return row(model, auroc=score(value, 0.06), resamples=Resamples(origin=origin, values=pack(value + WIDE + own)))


def stairs_of(*rows: ResultRecord) -> list[Staircase]:
    return staircases(build_board(rows)[0].tables[0])


def test_methods_whose_intervals_overlap_are_told_apart_by_the_paired_difference() -> None:
    (stairs,) = stairs_of(resampled("one", 0.75), resampled("three", 0.80), resampled("sixteen letters..", 0.7503))
    assert [name.label for name in stairs.names] == ["three", "sixteen letters..", "one"]
    top, bottom, close = stairs.steps
    assert top.text.startswith("three − sixteen letters..: 0.050 [0.04")
    assert (bottom.points, bottom.interval[:2]) == ("5.0", "[4")
    assert close.interval.startswith("[−")
    assert [step.separable for step in stairs.steps] == [True, True, False]
    assert stairs.told == "2 of 3 pairs differ"


def test_the_difference_is_the_paired_bootstrap_of_the_scores() -> None:
    """Rows made by the scoring of real evaluations give the same interval as the bootstrap of their scores side by side."""
    rng = np.random.default_rng(3)
    labels = rng.random((150, 3)) < 0.3
    patients = np.array([f"p{i // 2}" for i in range(150)])
    scores: list[NDArray[np.float64]] = [labels + rng.normal(0, spread, labels.shape) for spread in (0.6, 0.8)]
    interval = Interval(resamples=RESAMPLES)
    rows = []
    for name, values in zip("ab", scores, strict=True):
        made = Predictions(values[None], labels, np.arange(150).astype(str), patients, ("x", "y", "z"))
        rows.append(row(name, outcome=measure(made, [auroc()], interval)))
    wanted = paired_difference(*scores, labels, patients, metric=auroc(), resamples=RESAMPLES)
    (stairs,) = stairs_of(*rows)
    sign = 1 if wanted.value > 0 else -1
    told = [float(n.replace("−", "-")) for n in re.findall(r"[−\d][\d.]+", stairs.steps[0].text.partition(":")[2])]
    assert told.pop() == pytest.approx(wanted.p, abs=6e-4)
    assert told == pytest.approx([sign * wanted.value, *sorted((sign * wanted.low, sign * wanted.high))], abs=6e-4)
    assert stairs.steps[0].separable == wanted.separable


def test_rows_without_resamples_have_no_staircase_and_still_a_board() -> None:
    rows = realistic_rows()
    assert all(not staircases(table) for section in build_board(rows) for table in section.tables)
    assert b"Paired differences" not in board_files(rows)["index.html"]


def test_rows_resampled_from_other_records_are_not_compared() -> None:
    (stairs,) = stairs_of(
        resampled("a", 0.9), resampled("bb", 0.8), resampled("ccc", 0.7, origin="other"), row("d", auroc=score(0.6, 0.1))
    )
    assert [step.points is None for step in stairs.steps] == [False, True, True, True, True, True]
    assert stairs.told == "1 of 1 pairs differ"
    assert "not scored on the same records" in stairs.steps[1].text
    assert stairs_of(resampled("a", 0.9), resampled("bb", 0.8, origin="other")) == []


@pytest.mark.parametrize("damaged", ["no base64!", "AAA=", pack(np.zeros(3))])
def test_damaged_resamples_are_told_with_the_row(damaged: str) -> None:
    other = row("bb", auroc=score(0.8, 0.1), resamples=Resamples(origin="same", values=damaged))
    with pytest.raises(UserError, match=rf"the resamples in row .*{other.key[:16]}.* are damaged: .*; delete the row"):
        stairs_of(resampled("a", 0.9), other)


def test_steps_stay_inside_the_drawing_and_names_beside_their_own_row() -> None:
    (stairs,) = stairs_of(*(resampled("m" * n, 0.5 + n / 50) for n in range(1, 8)))
    assert len(stairs.steps) == 21
    for i, name in enumerate(stairs.names):
        beside = [step for step in stairs.steps if step.y < name.y < step.y + ROW]
        assert [step.text.split(":")[0] for step in beside] == [f"{better.label} − {name.label}" for better in stairs.names[:i]]
        assert all(step.x >= 0 and step.x + CELL <= name.x for step in beside)
        assert all(step.x < better.x < step.x + CELL for step, better in zip(beside, stairs.names[:i], strict=True))
        assert name.x < stairs.width
        assert name.y < stairs.height


def test_of_many_methods_the_best_are_drawn_and_all_pairs_are_counted() -> None:
    many = [resampled(f"m{n:02d}", 0.5 + n / 100) for n in range(DRAWN + 3)]
    (stairs,) = stairs_of(*many)
    assert [name.label for name in stairs.names] == [f"m{n:02d}" for n in range(DRAWN + 2, 2, -1)]
    assert len(stairs.steps) == DRAWN * (DRAWN - 1) / 2
    pairs = (DRAWN + 3) * (DRAWN + 2) // 2
    assert stairs.told.endswith(f"of {pairs} pairs differ; the {DRAWN} best of {DRAWN + 3} methods are drawn")
    (section,) = json.loads(board_files(many)["statistics.json"])
    assert [len(found["pairs"]) for found in section["pairs"]] == [pairs]


def test_the_page_holds_every_pair_with_its_interval() -> None:
    page = board_files([resampled("a", 0.9), resampled("bb", 0.8)])["index.html"].decode()
    assert "Paired differences" in page
    assert re.search(r"<title>a − bb: 0\.100 \[0\.0\d\d, 0\.10\d\], p &lt; 0\.001, they differ</title>", page)
