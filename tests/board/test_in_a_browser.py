"""The page in a real browser: sorting, filtering, dark, a phone's width, the keyboard, no error, no serious violation.

Needs playwright and axe-playwright-python (the extra `browser`) and an installed Chromium or Chrome.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from board_rows import METHODS, realistic_rows
from test_board_files import evil_rows

from melp_bench.board import board_files

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'melp-bench[browser]'")
CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

PHONE, DESK = 380, 1280
OPEN = "document.querySelectorAll('details').forEach(each => { each.open = true; })"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("board") / "index.html"
    path.write_bytes(board_files(realistic_rows())["index.html"])
    return path


def opened(browser: Any, path: Path, width: int = DESK, scheme: str = "light") -> tuple[Any, list[str]]:
    """Return the page, and what its console and its scripts will complain of."""
    page = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme).new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(path.as_uri())
    return page, complaints


def names(page: Any, table: str = "table.overview") -> list[str]:
    """Return the methods of the first such table that are shown, from the top."""
    rows = page.locator(table).first.locator("tbody").first.locator("tr:visible th a")
    return [text.strip() for text in rows.all_inner_texts()]


def test_a_click_sorts_by_a_column_and_a_second_one_turns_it(browser: Any, board: Path) -> None:
    page, complaints = opened(browser, board)
    first = names(page)
    assert sorted(first) == sorted(METHODS)
    for header, kind in (("records/s", "number"), ("method", "name")):
        button = page.locator("table.overview thead button", has_text=header).first
        column = button.locator("xpath=..").get_attribute("data-column")
        for _ in range(2):
            button.click()
            shown = page.locator("table.overview tbody tr").evaluate_all(
                "(rows, column) => rows.map((row) => row.children[column].dataset.value)", int(column)
            )
            direction = button.locator("xpath=..").get_attribute("aria-sort")
            key = float if kind == "number" else str
            assert shown == sorted(shown, key=key, reverse=direction == "descending")
    assert page.locator("table.overview [aria-sort]").count() == 1
    page.locator("table.overview thead button", has_text="mean rank").click()
    assert names(page) == first
    page.locator("table.main thead button", has_text="1 %").first.click()
    assert page.locator("table.main").first.locator("[aria-sort]").inner_text().startswith("linear probe 1 %")
    assert complaints == []


def test_the_filter_leaves_the_rows_and_cards_of_methods_whose_name_has_it(browser: Any, board: Path) -> None:
    page, complaints = opened(browser, board)
    page.locator("[data-filter]").fill("ME")
    assert sorted(names(page)) == sorted(names(page, "table.main")) == ["melp", "merl"]
    assert page.locator("details.card:visible").count() == 2
    assert page.locator("[data-found]").inner_text() == "2 of 5"
    page.locator("[data-filter]").fill("")
    assert len(names(page)) == 5
    assert complaints == []


def test_a_dark_screen_gets_a_dark_page_and_a_light_one_a_light_page(browser: Any, board: Path) -> None:
    for scheme, is_dark in (("dark", True), ("light", False)):
        page, _ = opened(browser, board, scheme=scheme)
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))) < 200) == is_dark


@pytest.mark.parametrize("width", [320, PHONE, 768, DESK])
def test_no_width_scrolls_sideways_whatever_is_open(browser: Any, board: Path, width: int) -> None:
    page, complaints = opened(browser, board, width)
    assert page.evaluate(OVERFLOW) <= 0
    page.evaluate(OPEN)
    assert page.evaluate(OVERFLOW) <= 0
    assert complaints == []


def test_all_can_be_done_by_keyboard(browser: Any, board: Path) -> None:
    page, _ = opened(browser, board)
    page.locator("[data-filter]").focus()
    page.keyboard.type("simclr")
    assert names(page) == ["simclr"]
    page.locator("table.overview tbody tr:visible th a").focus()
    page.keyboard.press("Enter")
    assert page.locator("details.card[open] summary").inner_text().startswith("simclr")
    page.locator("[data-filter]").fill("")
    page.locator("table.overview thead button", has_text="method").focus()
    page.keyboard.press("Enter")
    assert names(page) == sorted(METHODS)


@pytest.mark.parametrize(("width", "scheme"), [(DESK, "light"), (DESK, "dark"), (PHONE, "light")])
def test_no_serious_violation_of_accessibility(browser: Any, board: Path, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe: pip install 'melp-bench[browser]'")
    page, _ = opened(browser, board, width, scheme)
    page.evaluate(OPEN)
    found = axe.Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    serious = {one["id"]: one["nodes"][0]["html"][:200] for one in found if one["impact"] in ("serious", "critical")}
    assert serious == {}, json.dumps(serious, indent=1)


def test_names_that_are_scripts_or_run_from_right_to_left_or_are_emoji_do_nothing(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    path.write_bytes(board_files(evil_rows())["index.html"])
    page, complaints = opened(browser, path, PHONE)
    page.on("dialog", lambda dialog: complaints.append(f"a dialog: {dialog.message}"))
    page.evaluate(OPEN)
    assert page.evaluate("document.scripts.length") == 1
    assert page.evaluate(OVERFLOW) <= 0
    assert complaints == []
