"""Several pretraining seeds of a method are one line of a board: their mean, its interval, and how far they spread."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from board_rows import row, score
from numpy.typing import NDArray

from melp_bench.board import board_files
from melp_bench.board.arrangement import build_board
from melp_bench.board.pretraining_seeds import over_seeds, spread
from melp_bench.measure import difference, pack, unpack
from melp_bench.results import ClassScore, Outcome, Resamples, ResultRecord

DRAWN = np.random.default_rng(0).normal(0.8, 0.02, (3, 1000))


def seeded(
    seed: int, value: float, *, model: str = "melp", drawn: NDArray[np.float64] | None = None, origin: str = "one"
) -> ResultRecord:
    """Return the row of one pretraining seed."""
    resamples = None if drawn is None else Resamples(origin=origin, values=pack(drawn))
    per_class = (ClassScore(name="MI", positives=40, records=100, scores={"auroc": score(value, 0.05)}),)
    made = row(model, auroc=score(value, 0.04), resamples=resamples, classes=per_class)
    inputs = made.inputs.model_copy(update={"model": made.inputs.model | {"seed": seed, "budget": {"seed": seed, "steps": 5}}})
    return made.model_copy(update={"inputs": inputs, "key": inputs.key})


SEEDS = [seeded(seed, value, drawn=DRAWN[seed]) for seed, value in enumerate((0.79, 0.93, 0.83))]


def outcome_of(record: ResultRecord) -> Outcome:
    """Return the outcome of a scored row."""
    if record.outcome is None:
        pytest.fail("the row is not scored")
    return record.outcome


def test_rows_of_several_seeds_are_one_method_with_their_mean() -> None:
    (section,) = build_board([*SEEDS, seeded(0, 0.7, model="simclr")])
    (table,) = section.tables
    assert [method.label for method in table.methods] == ["melp", "simclr"]
    assert len(section.records) == 4  # none is lost
    melp, simclr = (table.columns[0].cells[method.anchor] for method in table.methods)
    assert outcome_of(melp.record).scores["auroc"].value == pytest.approx(0.85)
    assert melp.spread("auroc") == spread(SEEDS, "auroc")
    assert simclr.spread("auroc") is None


def test_the_interval_is_that_of_the_mean_on_the_same_patients() -> None:
    merged = outcome_of(over_seeds(SEEDS)).scores["auroc"]
    low, high = np.percentile(DRAWN.mean(axis=0), [2.5, 97.5])
    assert (merged.low, merged.high) == pytest.approx((low, max(high, 0.85)), abs=1e-6)


def test_without_common_resamples_the_ends_are_averaged() -> None:
    apart = [seeded(0, 0.8, drawn=DRAWN[0]), seeded(1, 0.9, drawn=DRAWN[1], origin="another")]
    merged = outcome_of(over_seeds(apart))
    found = merged.scores["auroc"]
    assert (found.value, found.low, found.high) == pytest.approx((0.85, 0.81, 0.89))
    assert merged.resamples is None


def test_classes_are_averaged_too() -> None:
    (entry,) = outcome_of(over_seeds(SEEDS)).classes
    assert entry.scores["auroc"].value == pytest.approx(0.85)


def test_paired_differences_read_the_mean_of_every_resample() -> None:
    other = seeded(0, 0.6, model="simclr", drawn=DRAWN.mean(axis=0) - 0.1)
    found = difference(outcome_of(over_seeds(SEEDS)), outcome_of(other), 0.95)
    if found is None:
        pytest.fail("the two met the same resamples")
    assert (found.low, found.high) == pytest.approx((0.1, 0.1), abs=1e-6)
    assert unpack(outcome_of(over_seeds(SEEDS)).resamples.values) == pytest.approx(DRAWN.mean(axis=0), abs=1e-6)  # type: ignore[union-attr]


def test_a_seed_that_was_not_scored_takes_no_part() -> None:
    refused = row("melp", reason="diverged")
    assert over_seeds([refused, SEEDS[1]]) == SEEDS[1]
    assert over_seeds([refused]) == refused


def test_every_file_of_the_board_tells_the_spread() -> None:
    files = {name: content.decode() for name, content in board_files(SEEDS).items()}
    for name in ("README.md", "index.html", "board.tex"):
        assert "3 seeds 0.790 to 0.930" in files[name]
    lines = list(csv.DictReader(io.StringIO(files["board.csv"])))
    assert [(line["pretraining_seeds"], line["auroc"][:4]) for line in lines] == [
        ("0; 1; 2", "0.85"),
        ("0", "0.79"),
        ("1", "0.93"),
        ("2", "0.83"),
    ]
    assert [line["rank"] for line in lines] == ["1", "", "", ""]


def test_the_order_of_rows_does_not_matter() -> None:
    assert board_files(SEEDS) == board_files(SEEDS[::-1])
