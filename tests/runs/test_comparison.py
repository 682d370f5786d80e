"""Two models class by class, from their predictions alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sent_rows import NASTY, Board, scores_of

from melp_bench.cli import _run
from melp_bench.errors import UserError
from melp_bench.metrics import delong_difference, holm
from melp_bench.plugins import discover
from melp_bench.runs.comparison import compare_models


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    board = Board.made(tmp_path_factory.mktemp("board"), discover())
    given = scores_of(5, 1.0)
    board.add("elsewhere", replace(given, record_ids=np.char.add("x", given.record_ids)))
    return board


def test_each_class_has_delongs_difference_of_the_mean_over_seeds_adjusted_by_holm(board: Board) -> None:
    (classes,) = compare_models(board.results, "melp", NASTY).values()
    one, two = scores_of(0, 1.5), scores_of(1, 1.0)
    wanted = [delong_difference(one.scores[..., c], two.scores[..., c], one.labels[:, c], one.patients) for c in range(3)]
    assert [c.difference for c in classes] == wanted
    assert [c.adjusted_p for c in classes] == holm([d.p for d in wanted])
    assert [c.positives for c in classes] == one.labels.sum(axis=0).tolist()


def test_models_that_share_no_records_are_not_compared(board: Board) -> None:
    for other in ("elsewhere", "random-init", "nobody"):
        with pytest.raises(UserError, match="has no two rows of 'melp' and"):
            compare_models(board.results, "melp", other)


def test_the_command_prints_every_class(board: Board, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert _run(["results", "compare", "melp", NASTY, "--results", str(board.results)], False) == 0
    said = capsys.readouterr().out
    assert "d/super zero_shot: AUROC of melp minus" in said
    assert sum(line.startswith("  ") for line in said.splitlines()) == 3
