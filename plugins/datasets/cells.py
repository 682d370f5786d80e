"""Cells of tables and fields of headers as values: age, sex and truth, in the spellings that are met."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import melp_bench as mb
from melp_bench.records import stated

T = TypeVar("T")

OLDEST_YEARS = 90.0
"""What stands for an age that is hidden because it is above 89."""
_HIDDEN = re.compile(r">\s*89|(>=|≥)\s*(89|90)|(89|90)\s*\+")
_DICOM = re.compile(r"(\d{3})([DWMY])", re.IGNORECASE)
_AGE = re.compile(r"(\d{1,5}(?:[.,]\d+)?)\s*([^\W\d_]*)\.?")
_DAYS_A_YEAR = 365.25
_PARTS = {
    1.0: "y yr yrs year years yo a j jahr jahre ans ano anos año años",
    12.0: "mo mos mon mth month months monat monate",
    _DAYS_A_YEAR / 7: "w wk wks week weeks woche wochen",
    _DAYS_A_YEAR: "d day days tag tage",
}
_PER_YEAR = {word: parts for parts, words in _PARTS.items() for word in words.split()}
_DICOM_UNITS = {"D": "d", "W": "w", "M": "mo", "Y": "y"}
_WORDS = {
    "F": "f fem female w woman weiblich frau femme féminin feminin femenino feminino mujer mulher kvinna",
    "M": "m male man männlich maennlich mann homme masculin masculino hombre homem",
}
_SEXES = {word: sex for sex, words in _WORDS.items() for word in words.split()}
_TRUTH = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
SHOWN = 5


def years(cell: str) -> float | None:
    """Return an age in years, None where there is none to believe.

    Read are numbers ("50.5", "50,5"), units ("7.5 yr", "16 mo"), DICOM's form ("054Y", "016M"), and ">89" as 90, which hides an
    age. Whether "16M" is months or a man of 16 is not guessed.
    """
    text = stated(cell).casefold()
    if _HIDDEN.fullmatch(text):
        return OLDEST_YEARS
    if form := _DICOM.fullmatch(text):
        number, unit = form[1], _DICOM_UNITS[form[2].upper()]
    elif form := _AGE.fullmatch(text):
        number, unit = form[1].replace(",", "."), form[2]
    else:
        number, unit = text, ""
    try:
        age = float(number) / _PER_YEAR[unit or "y"]
    except (ValueError, KeyError):
        return None
    return age if math.isfinite(age) and 0 <= age <= 130 else None


def sex(cell: str) -> str | None:
    """Return "F" or "M"; None for anything but a spelling of these: what 0 and 1 stand for, a table must say."""
    return _SEXES.get(stated(cell).casefold())


def truth(cell: str, column: str, place: str) -> bool:
    """Return a cell as a truth value; one that states nothing is False.

    Raises:
        UserError: it is neither 0, 1, true, false nor without a statement.
    """
    text = stated(cell).casefold()
    value = _TRUTH.get(text) if text else False
    if value is None:
        raise mb.UserError(f"{place}: {column} is {cell[:40]!r}; wanted 0, 1, true or false")
    return value


class UnreadCells:
    """Counts of cells that say something and were not understood; nothing is dropped in silence."""

    def __init__(self) -> None:
        self._cells: dict[str, Counter[str]] = {}

    def read(self, reader: Callable[[str], T | None], column: str, cell: str) -> T | None:
        """Return what `reader` makes of a cell, and count it where that is nothing and the cell is not."""
        value = reader(cell)
        if value is None and stated(cell):
            self.count(column, cell)
        return value

    def count(self, column: str, cell: str) -> None:
        """Count a cell."""
        self._cells.setdefault(column, Counter())[cell.strip()[:20]] += 1

    def remarks(self) -> list[str]:
        """Return a sentence for each column with such cells, the commonest first."""
        return [f"{column}: {_told(cells)} not understood and left out" for column, cells in self._cells.items()]


def _told(cells: Counter[str]) -> str:
    shown = ", ".join(f"{cell!r} {number:,}" for cell, number in cells.most_common(SHOWN))
    return f"{cells.total():,} cells ({shown}{', ...' if len(cells) > SHOWN else ''})"
