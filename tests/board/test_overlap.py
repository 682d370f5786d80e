"""What a board says of test records in pretraining: as declared, as found, and never more than is known."""

from __future__ import annotations

import csv
from typing import Any

import pytest
from board_rows import row, score

from melp_bench.board.arrangement import build_board
from melp_bench.board.html import render_pages
from melp_bench.board.leakage import leaks, overlap_text, seen_among
from melp_bench.board.markdown import render_markdown
from melp_bench.board.spreadsheet import render_csv
from melp_bench.plugins import discover
from melp_bench.results import ResultRecord

GOOD = score(0.9, 0.01)
CLEAN = {"corpus": "mine", "checked": True, "records": 598, "found": 0, "by": "signal"}


def made(model: str, corpora: list[str], overlap: object = None, task: str = "ptb-xl/super") -> ResultRecord:
    facts: dict[str, Any] = {"corpora": corpora, "pretraining": {}}
    return row(model, task=task, auroc=GOOD, facts=facts if overlap is None else facts | {"overlap": overlap})


@pytest.mark.parametrize(
    ("corpora", "overlap", "text", "leaking"),
    [
        (["ptb-xl"], None, "declared", ["ptb-xl"]),
        (["physionet-2021"], None, "declared", ["ptb-xl"]),
        (["mine"], None, "not checked", []),
        ([], None, "no pretraining data", []),
        (["ptb-xl"], {"corpus": None, "checked": False, "reason": "declared corpora only"}, "declared", ["ptb-xl"]),
        (["mine"], {"corpus": "mine", "checked": False, "reason": "large"}, "not checked", []),
        (["mine"], CLEAN, "none found (checked)", []),
        (["ptb-xl"], CLEAN | {"corpus": "ptb-xl"}, "none found (checked)", []),
        (["mine"], CLEAN | {"found": 12}, "12 of 598 test records found in the pretraining corpus", ["ptb-xl"]),
        (["mimic", "mine"], CLEAN, "none found (checked); declared only: mimic", []),
        (["ptb-xl", "mine"], CLEAN, "declared; in mine: none found (checked)", ["ptb-xl"]),
        (["mine"], CLEAN | {"found": "many"}, "not checked", []),
        (["mine"], CLEAN | {"records": None}, "not checked", []),
        (["mine"], "yes", "not checked", []),
    ],
)
def test_the_text_says_what_is_known(corpora: list[str], overlap: object, text: str, leaking: list[str]) -> None:
    record = made("melp", corpora, overlap)
    assert overlap_text(record) == text
    assert leaks(record) == leaking


@pytest.mark.parametrize(
    ("corpus", "datasets"),
    [
        (
            "physionet-2021",
            ("ptb-xl-sample", "cpsc2018-sample", "g12ec", "csn-sample", "chapman-original", "ptb-diagnostic", "incart"),
        ),
        ("csn", ("csn-sample", "chapman-original")),
        ("chapman-original", ("csn", "csn-sample")),
        ("code", ("code-15",)),
        ("ludb", ("ludb-waves",)),
        ("ludb-waves", ("ludb",)),
        ("mimic-iv-ecg", ("mimic-iv-ecg-demo",)),
        ("cinc2011", ("cinc2011-sample",)),
    ],
)
def test_hearts_that_two_datasets_share_are_seen_under_either_name(corpus: str, datasets: tuple[str, ...]) -> None:
    unlike = ["code-test", "sph", "leipzig"]
    assert seen_among([corpus], [*datasets, *unlike]) == list(datasets)
    assert set(datasets) <= {entry.name for entry in discover().datasets}


def test_every_form_of_the_board_tells_it_and_marks_the_rows_it_concerns() -> None:
    found = CLEAN | {"found": 12}
    rows = [made("melp", ["mine"], found), made("merl", ["mine"], CLEAN), made("ecg-fm", ["ptb-xl"]), made("d-beta", ["mimic"])]
    board = build_board(rows)
    text = "12 of 598 test records found in the pretraining corpus"
    markdown = render_markdown(board)
    said = f"not checked: d-beta; declared: ecg-fm; {text}: melp; none found (checked): merl."
    assert f"- Test records in pretraining: {said}" in markdown
    marked = {line.split("|")[1].strip(): "†" in line for line in markdown.splitlines() if line.startswith("| ")}
    assert {name: marked[name] for name in ("melp", "merl", "ecg-fm", "d-beta")} == {
        "melp": True,
        "merl": False,
        "ecg-fm": True,
        "d-beta": False,
    }
    page = render_pages(board)["index.html"]
    assert f"({text})" in page
    assert "(none found (checked))" in page
    lines = {line["model"]: line for line in csv.DictReader(render_csv(board).splitlines())}
    assert lines["melp"]["overlap_check"] == text
    assert lines["d-beta"]["overlap_check"] == "not checked"


def test_a_method_that_differs_between_columns_is_said_with_its_columns() -> None:
    first, second = made("melp", ["mine"], CLEAN), row("melp", "linear_probe", "ptb-xl/super", "1 %", auroc=GOOD, facts={})
    (table,) = build_board([first, second])[0].tables
    assert table.overlaps == {"none found (checked)": ["melp (zero-shot)"], "no pretraining data": ["melp (linear probe 1 %)"]}
