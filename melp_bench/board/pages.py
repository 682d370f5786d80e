"""Which parts of a board stand on which page: all on one, unless that would be too large to open on a phone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from melp_bench.board.sections import Section

LARGEST = 2_000_000  # bytes of a page, as far as a board can be divided
MANY_ROWS = 1000  # are not tried on one page
CARDS = 20  # of methods on a page of their own
INDEX = "index.html"
PAGES = {"sensitivity": "What each published defect moves", "beside": "The same models under two protocols"}
"""Folders beside a board's files with pages that it leads to, and what these are."""
PART_NAME = re.compile(r"s\d+-(t|methods-)\d+\.html")


@dataclass(frozen=True)
class SectionPart:
    """What of a section is on a page: its overview, the tables of these numbers, the cards of methods with these anchors."""

    overview: bool
    tables: tuple[int, ...]
    methods: frozenset[str]


@dataclass(frozen=True)
class Page:
    """A file of the board; `parts` by the anchor of the section."""

    name: str
    parts: Mapping[str, SectionPart]
    speeds: bool


def one_page(sections: Sequence[Section]) -> list[Page]:
    """Return the page that has everything."""
    return [Page(INDEX, {section.anchor: _part(section, overview=True) for section in sections}, speeds=True)]


def several_pages(sections: Sequence[Section]) -> list[Page]:
    """Return a page of all overviews, one per table, and one per `CARDS` methods."""
    pages = [Page(INDEX, {s.anchor: SectionPart(overview=True, tables=(), methods=frozenset()) for s in sections}, speeds=True)]
    for section in sections:
        parts = [(f"t{n}", SectionPart(False, (n,), frozenset())) for n in range(1, len(section.tables) + 1)]
        anchors = [method.anchor for method in section.methods]
        for start in range(0, len(anchors), CARDS):
            chosen = frozenset(anchors[start : start + CARDS])
            parts.append((f"methods-{start // CARDS + 1}", SectionPart(False, (), chosen)))
        pages += [Page(f"{section.anchor}-{name}.html", {section.anchor: part}, speeds=False) for name, part in parts]
    return pages


def _part(section: Section, *, overview: bool) -> SectionPart:
    return SectionPart(overview, tuple(range(1, len(section.tables) + 1)), frozenset(m.anchor for m in section.methods))


def links_from(page: Page, pages: Sequence[Page]) -> Callable[[str], str]:
    """Return what makes the address of an anchor, as it is reached from `page`."""
    place = {"speed": next((one.name for one in pages if one.speeds), INDEX)}
    for one in pages:
        for anchor, part in one.parts.items():
            place |= {anchor: one.name} if part.overview else {}
            place |= dict.fromkeys((f"{anchor}-t{number}" for number in part.tables), one.name)
            place |= dict.fromkeys(part.methods, one.name)
    return lambda anchor: f"#{anchor}" if place[anchor] == page.name else f"{place[anchor]}#{anchor}"
