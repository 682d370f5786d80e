"""A board that is too large for one page is several: everything is on one of them, and every link leads there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from board_rows import METHODS, realistic_rows
from test_board_files import read

from melp_bench.board import board_files, html, write_board
from melp_bench.results import ResultRecord


@pytest.fixture
def rows() -> list[ResultRecord]:
    return [*realistic_rows(), *realistic_rows(generated=False, dataset="ptb-xl", name="ptb-xl-probe")]


def test_a_small_board_is_one_page(rows: list[ResultRecord]) -> None:
    assert [name for name in board_files(rows) if name.endswith(".html")] == ["index.html"]


def test_a_large_board_is_overviews_and_a_page_per_task_and_of_the_methods(
    rows: list[ResultRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = board_files(rows)["index.html"]
    monkeypatch.setattr(html, "LARGEST", len(whole) - 1)
    pages = {name: content for name, content in board_files(rows).items() if name.endswith(".html")}
    assert sorted(pages) == [
        "index.html",
        *(f"s{s}-{part}.html" for s in (1, 2) for part in ("methods-1", "t1", "t2", "t3")),
    ]
    assert max(map(len, pages.values())) < len(whole)
    ids = {name: set(read(content).ids) for name, content in pages.items()}
    for name, content in pages.items():
        found = read(content)
        assert found.loads == []
        for target in found.targets:
            page, _, anchor = target.partition("#")
            assert anchor in ids[page or name], f"{name}: {target}"
    assert set(read(whole).ids) == set().union(*ids.values())
    assert pages["index.html"].count(b'<table class="overview"') == 2
    assert sum(content.count(b'<table class="main"') for content in pages.values()) == 6
    assert pages["s1-methods-1.html"].count(b'<details class="card"') == len(METHODS)


def test_pages_of_a_board_that_became_small_are_taken_away_and_other_files_left(
    rows: list[ResultRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s1-notes.html").write_text("mine")
    with monkeypatch.context() as patched:
        patched.setattr(html, "LARGEST", 1)
        write_board(rows, tmp_path)
        assert len([path for path in tmp_path.glob("*.html") if re.match(r"s\d-", path.name)]) == 9
    write_board(rows, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.html")) == ["index.html", "s1-notes.html"]


def test_the_board_leads_to_the_sensitivity_pages_beside_it(rows: list[ResultRecord], tmp_path: Path) -> None:
    write_board(rows, tmp_path)
    assert "published defect" not in (tmp_path / "index.html").read_text()
    (tmp_path / "sensitivity").mkdir()
    (tmp_path / "sensitivity" / "a <b> & c-demo.html").write_text("")
    write_board(rows, tmp_path)
    targets = read((tmp_path / "index.html").read_bytes()).targets
    assert "sensitivity/a%20%3Cb%3E%20%26%20c-demo.html" in targets
