"""How long the missing rows of a plan will take, as far as rows that are there tell it."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable

from melp_bench.checkpoint import is_checkpoint
from melp_bench.results import ResultRecord, read_results
from melp_bench.runs.plan import Plan, Row


def estimated_time(plan: Plan) -> str:
    """Return in words how long the missing rows are expected to take, and what of them is not known."""
    missing = plan.missing()
    known, unknown = expected_seconds([row for row in missing if row.reason is None], read_results(plan.results, _untold))
    to_make = len({row.candidate.told for row in missing if row.reason is None and not is_checkpoint(row.candidate.folder)})
    open_ends = [
        f"{count} {word}{'' if count == 1 else 's'}" for count, word in ((unknown, "row"), (to_make, "model")) if count
    ]
    rest = f"{' and '.join(open_ends)} of unknown duration" if open_ends else ""
    about = f"about {_clock(known)} by earlier rows" if known else ""
    return ", and ".join(part for part in (about, rest) if part) or "a moment"


def expected_seconds(rows: Iterable[Row], records: Iterable[ResultRecord]) -> tuple[float, int]:
    """Return the sum of the median seconds of rows like each, and of how many there is none.

    Like a row is first what has its task, evaluation and setting, then its evaluation and setting, of whatever model.
    """
    taken: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for record in records:
        if record.status == "scored" and record.seconds > 0:
            taken[record.evaluation, record.setting, record.task].append(record.seconds)
            taken[record.evaluation, record.setting].append(record.seconds)
    known, unknown = 0.0, 0
    for row in rows:
        asked = row.planned.measurement
        alike = taken.get((row.planned.name, asked.setting, asked.task)) or taken.get((row.planned.name, asked.setting))
        if alike:
            known += statistics.median(alike)
        else:
            unknown += 1
    return known, unknown


def _untold(told: str) -> None:
    """Say nothing of rows that are damaged: a run tells them once."""


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}" if seconds >= 1 else "a second"
