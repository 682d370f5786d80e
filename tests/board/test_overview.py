"""The overview of a board: ranks beside costs, every cell where it belongs, and what cannot be ranked said."""

from __future__ import annotations

import re

from board_rows import METHODS, realistic_rows, row, score

from melp_bench.board import board_files
from melp_bench.board.aggregate_ranks import aggregate_ranks
from melp_bench.board.arrangement import build_board
from melp_bench.board.overview import Overview, overview
from melp_bench.results import ResultRecord


def of(rows: list[ResultRecord]) -> Overview:
    (section,) = build_board(rows)
    return overview(section)


def test_rows_stand_in_the_order_of_their_mean_ranks_and_every_cell_under_its_measurement() -> None:
    rows = realistic_rows()
    found, (section,) = of(rows), build_board(rows)
    assert [r.method.label for r in found.rows] == [m.label for m in aggregate_ranks(section)[0].methods]
    columns = [column for table in section.tables for column in table.columns]
    assert [name for heading in found.headings for name in heading.measurements] == [c.measurement for c in columns]
    for one in found.rows:
        for column, cell in zip(columns, one.cells, strict=True):
            scored = column.cells[one.method.anchor]
            assert cell.rank == (scored.standings["auroc"].rank if scored.standings else None)
            assert cell.best == (bool(scored.standings) and scored.standings["auroc"].best)
            if (value := scored.score("auroc")) is not None:
                assert f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]" in cell.text
                assert (cell.value, cell.shown) == (value.value, f"{value.value:.3f}")
                assert f"rank {cell.rank}" in cell.text
            else:
                assert scored.reason in cell.text


def test_what_pretraining_drew_is_steps_times_batch_and_unknown_where_one_is_unknown() -> None:
    facts = [{"pretraining": {"steps": 420, "batch_size": 24}}, {"pretraining": {"steps": 420}}, {"pretraining": {}}, {}]
    rows = [row(name, auroc=score(0.8, 0.1), facts=one) for name, one in zip("abcd", facts, strict=True)]
    assert {r.method.label: r.drawn for r in of(rows).rows} == {"a": 10080.0, "b": None, "c": None, "d": None}


def test_a_model_that_may_have_seen_the_test_records_is_marked_in_the_cell() -> None:
    facts = {"corpora": ["ptb-xl"]}
    rows = [row("seen", task="ptb-xl/super", auroc=score(0.8, 0.1), facts=facts)]
    rows += [row("clean", task="ptb-xl/super", auroc=score(0.8, 0.1), facts={"corpora": []})]
    marks = {r.method.label: r.cells[0].leaks for r in of(rows).rows}
    assert marks == {"seen": True, "clean": False}


def test_one_method_or_one_measurement_has_no_ranks_and_a_table_all_the_same() -> None:
    alone = of([row("a", auroc=score(0.8, 0.1))])
    assert [r.ranked for r in alone.rows] == [None]
    assert alone.ranks == ()
    assert alone.rows[0].cells[0].rank == 1
    assert "Overview" in board_files([row("a", auroc=score(0.8, 0.1))])["index.html"].decode()


def test_the_page_has_a_row_per_method_with_mean_rank_and_interval() -> None:
    page = board_files(realistic_rows())["index.html"].decode()
    table = page[page.index('<table class="overview"') : page.index("</table>", page.index('<table class="overview"'))]
    for method in METHODS:
        assert f'<tr data-method="{method}">' in table
    assert len(re.findall(r'class="td.place|class="place', table)) == len(METHODS) * 9
    (section,) = build_board(realistic_rows())
    for ranked in aggregate_ranks(section)[0].methods:
        assert f'data-value="{ranked.mean_rank}"' in table
