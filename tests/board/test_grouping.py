"""Which rows may meet in a table."""

from __future__ import annotations

import pytest
from board_rows import realistic_rows, row, score

from melp_bench.board.arrangement import build_board
from melp_bench.board.leakage import leaks
from melp_bench.board.reported import reported_for
from melp_bench.board.sections import fraction_of
from melp_bench.results import ResultRecord

GOOD = score(0.9, 0.01)


def test_rows_of_two_protocol_hashes_never_meet() -> None:
    rows = [row("a", auroc=GOOD, protocol="1" * 64), row("b", auroc=GOOD, protocol="2" * 64)]
    sections = build_board(rows)
    assert [[m.label for m in s.methods] for s in sections] == [["a"], ["b"]]


def test_generated_rows_stand_apart_and_after_real_ones_even_under_one_protocol() -> None:
    rows = [row("a", auroc=GOOD, generated=True), row("b", auroc=score(0.7, 0.01), generated=False)]
    real, generated = build_board(rows)
    assert (real.generated, [m.label for m in real.methods]) == (False, ["b"])
    assert (generated.generated, [m.label for m in generated.methods]) == (True, ["a"])
    cell = next(iter(real.tables[0].columns[0].cells.values()))
    assert cell.standings["auroc"].leads  # the better generated row takes nothing from it


@pytest.mark.parametrize("other", [{"version": 2}, {"fingerprint": "0" * 64}])
def test_rows_measured_by_another_rule_or_on_other_data_are_never_compared(other: dict[str, object]) -> None:
    rows = [row("a", auroc=GOOD), row("b", auroc=score(0.7, 0.01), **other)]  # type: ignore[arg-type]
    (table,) = build_board(rows)[0].tables
    assert len(table.columns) == 2
    assert len({column.label for column in table.columns}) == 2
    assert all(cell.standings["auroc"].rank == 1 for column in table.columns for cell in column.cells.values())


def test_the_order_and_repetition_of_rows_do_not_matter() -> None:
    rows = realistic_rows()
    sections = build_board([*reversed(rows), *rows])
    assert [r.key for r in sections[0].records] == sorted(r.key for r in rows)


def test_columns_go_from_zero_shot_through_growing_fractions_to_transfer() -> None:
    (section,) = build_board(realistic_rows())
    assert [table.title for table in section.tables] == ["synthetic/rhythm", "synthetic/super", "transfer"]
    expected = ["zero-shot", "linear probe 1 %", "linear probe 10 %", "linear probe 100 %"]
    assert [column.label for column in section.tables[0].columns] == expected
    assert [column.label for column in section.tables[2].columns] == ["synthetic/super → synthetic/rhythm"]


def test_two_models_of_one_name_are_two_methods_with_different_labels() -> None:
    first = row("a", auroc=GOOD)
    inputs = first.inputs.model_copy(update={"model": {"checkpoint": "b" * 64}})
    second = ResultRecord.model_validate({**first.model_dump(), "inputs": inputs.model_dump(), "key": inputs.key})
    (section,) = build_board([first, second])
    labels = [method.label for method in section.methods]
    assert len(set(labels)) == 2
    assert all(label.startswith("a · ") for label in labels)


@pytest.mark.parametrize(
    ("corpora", "expected"),
    [
        (["ptb-xl"], ["ptb-xl"]),
        (["PTB-XL (folds 1-8)"], ["ptb-xl"]),
        ("ptb_xl/train", ["ptb-xl"]),
        (["PhysioNet-2021"], ["ptb-xl"]),
        (["ptb"], []),
        (["mimic-iv-ecg"], []),
        ([], []),
    ],
)
def test_an_overlap_of_pretraining_and_test_data_is_seen_by_whole_names(corpora: object, expected: list[str]) -> None:
    assert leaks(row(task="ptb-xl/super", auroc=GOOD, facts={"corpora": corpora})) == expected


def test_the_fingerprint_of_the_pretraining_data_finds_the_dataset_under_another_name() -> None:
    facts = {"corpora": ["something"], "pretraining": {"data": "e" * 64}}
    assert leaks(row(task="mine/super", auroc=GOOD, facts=facts, fingerprint="e" * 64)) == ["mine"]
    assert leaks(row(task="mine/super", auroc=GOOD, facts=facts, fingerprint="0" * 64)) == []


def test_a_transfer_is_checked_on_both_of_its_datasets() -> None:
    record = row(
        evaluation="transfer", task="cpsc2018/all->ptb-xl/super", auroc=GOOD, facts={"corpora": ["ptb-xl", "cpsc2018"]}
    )
    assert leaks(record) == ["cpsc2018", "ptb-xl"]


def test_reported_numbers_stand_beside_real_rows_of_the_same_measurement_only() -> None:
    real = row(evaluation="linear_probe", setting="1 %", task="ptb-xl/super", auroc=GOOD)
    assert {c.method: c.value for c in build_board([real])[0].tables[0].columns[0].reported}["MELP"] == pytest.approx(0.8763)
    generated = row(evaluation="linear_probe", setting="1 %", task="ptb-xl/super", auroc=GOOD, generated=True)
    assert build_board([generated])[0].tables[0].reported == []
    assert reported_for("linear_probe", "5 %", "ptb-xl/super", "auroc") == []
    assert reported_for("linear_probe", "100 %", "cpsc2018/all", "auprc") == []


def test_what_papers_report_is_there_in_full() -> None:
    """Twelve methods of MERL's table and four more, on six tasks at three fractions; three of MELP's; and zero-shot."""
    assert len(reported_for("linear_probe", "100 %", "cpsc2018/all", "auroc")) == 12 + 4 + 3
    assert len(reported_for("linear_probe", "1 %", "ptb-xl/form", "auroc")) == 12 + 4
    assert len(reported_for("zero_shot", "", "ptb-xl/sub", "auroc")) == 3
    (byol,) = [c for c in reported_for("linear_probe", "10 %", "ptb-xl/rhythm", "auroc") if c.method == "BYOL"]
    assert byol.value == pytest.approx(0.7440)


def test_papers_that_differ_on_one_method_are_two_lines_and_doubtful_cells_are_marked() -> None:
    table = build_board([row(evaluation="linear_probe", setting="10 %", task="csn/published", auroc=GOOD)])[0].tables[0]
    assert [cell.suspected != "" for cell in table.columns[0].reported if cell.method == "ST-MEM"] == [True]
    assert any(sentence.startswith("ST-MEM") for sentence in table.suspected)
    full = build_board([row(evaluation="linear_probe", setting="100 %", task="csn/published", auroc=GOOD)])[0].tables[0]
    assert [name for name, _ in full.reported].count("MERL") == 2


@pytest.mark.parametrize(("text", "share"), [("1 %", 0.01), ("12.5%", 0.125), ("100 %", 1.0), ("0 %", None), ("all", None)])
def test_a_setting_in_percent_is_a_share(text: str, share: float | None) -> None:
    assert fraction_of(text) == share
