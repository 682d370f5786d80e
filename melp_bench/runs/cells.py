"""Cells of a run, a model under one measurement each: which of them are asked for, and those that failed."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

from melp_bench.errors import UserError
from melp_bench.registry import nearest
from melp_bench.runs.measurements import Planned
from melp_bench.runs.plan import Row

ENDS_ALL = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE)  # what no other cell would be spared


@dataclass(frozen=True)
class Failure:
    """A cell that could not be made, and why; `error` is what was raised, where it was raised in this process."""

    cell: str
    reason: str
    error: Exception | None = None

    def raise_again(self) -> None:
        """Raise what was raised, or where that was elsewhere, its reason."""
        raise self.error or UserError(f"{self.cell}: {self.reason}")

    def __str__(self) -> str:
        return f"{self.cell}: {self.reason}"


def failed(row: Row, error: Exception) -> Failure:
    """Return the failure of a row; raise what ends a run, as a disk that is full."""
    if isinstance(error, OSError) and error.errno in ENDS_ALL:
        raise error
    words = " ".join(str(error).split())
    reason = words if isinstance(error, UserError) else f"{type(error).__name__}: {words}"
    return Failure(f"{row.candidate.told} · {row}", reason, error)


def chosen_rows(rows: Sequence[Row], only: Sequence[str], skip: Sequence[str]) -> tuple[Row, ...]:
    """Return the rows of a plan that are asked for, see `chosen`."""
    cells = [(row.candidate.label, row.planned) for row in rows]
    _check(cells, only, skip)
    return tuple(row for row, cell in zip(rows, cells, strict=True) if _is_wanted(cell, only, skip))


def chosen(cells: Iterable[tuple[str, Planned]], only: Sequence[str], skip: Sequence[str]) -> list[tuple[str, Planned]]:
    """Return the cells, model and measurement, that a pattern of `only` fits (all without one) and none of `skip`.

    A pattern is words with commas, each of which must be the model, the evaluation, the setting, the task, its dataset, or
    evaluation and setting; `*` and `?` stand for letters: "melp,linear_probe" or "ptb-xl/*".

    Raises:
        UserError: a pattern fits no cell, or no cell is left.
    """
    given = list(cells)
    _check(given, only, skip)
    return [cell for cell in given if _is_wanted(cell, only, skip)]


def _is_wanted(cell: tuple[str, Planned], only: Sequence[str], skip: Sequence[str]) -> bool:
    words = _words(cell)
    return (not only or any(_fits(pattern, words) for pattern in only)) and not any(_fits(pattern, words) for pattern in skip)


def _fits(pattern: str, words: Sequence[str]) -> bool:
    return all(any(fnmatch(word.lower(), part.strip().lower()) for word in words) for part in pattern.split(","))


def _words(cell: tuple[str, Planned]) -> list[str]:
    """Return what a cell is called by."""
    label, planned = cell
    asked, name = planned.measurement, planned.name
    tasks = [asked.task, *asked.tasks, *planned.aliases]
    return [word for word in (label, name, planned.evaluation.label, asked.setting, f"{name} {asked.setting}", *tasks) if word]


def _check(cells: Sequence[tuple[str, Planned]], only: Sequence[str], skip: Sequence[str]) -> None:
    """Refuse a pattern that fits no cell, naming what is near, and patterns that leave none."""
    if not cells:
        return
    words = [_words(cell) for cell in cells]
    known = list(dict.fromkeys(word for of in words for word in of))
    for flag, pattern in (*(("--only", one) for one in only), *(("--skip", one) for one in skip)):
        for part in pattern.split(","):
            if not _fits(part, known):
                raise UserError(f"{flag} {pattern!r} fits no cell{nearest(part, known)} Known: {', '.join(known)}")
        if not any(_fits(pattern, of) for of in words):
            raise UserError(
                f"{flag} {pattern!r} fits no cell, as none has all of these words; for cells with either, give {flag} for each"
            )
    if not any(_is_wanted(cell, only, skip) for cell in cells):
        told = " and ".join(
            f"{flag} {', '.join(map(repr, given))}" for flag, given in (("--only", only), ("--skip", skip)) if given
        )
        raise UserError(f"{told} leaves none of {len(cells)} cells; melp-bench run PROTOCOL --dry-run lists them")
