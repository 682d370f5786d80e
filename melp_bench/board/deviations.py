"""How far numbers of papers lie from those measured here, of methods that a recipe of this project rebuilds."""

from __future__ import annotations

from dataclasses import dataclass

from melp_bench.board.reported import method_of
from melp_bench.board.sections import Section


@dataclass(frozen=True)
class Deviation:
    """One cell that a paper reports and that was measured here, as shares and not as percent."""

    method: str
    reported_method: str
    task: str
    measurement: str
    metric: str
    reported: float
    value: float
    low: float
    high: float
    deviation: float  # reported minus ours
    source: str
    suspected: str  # why the reported cell looks like an error of copying


def deviations(section: Section) -> list[Deviation]:
    """Return reported minus measured for every cell of a section that has both, in the order of its tables."""
    found = []
    for table in section.tables:
        for column in table.columns:
            for method in table.methods:
                cell = column.cells.get(method.anchor)
                score = cell.score(column.primary) if cell is not None else None
                if cell is None or score is None or column.primary is None:
                    continue
                for reported in column.reported:
                    if reported.method != method_of(cell.record.model):
                        continue
                    found.append(
                        Deviation(
                            method=method.label,
                            reported_method=reported.method,
                            task=column.task,
                            measurement=column.measurement,
                            metric=column.primary,
                            reported=reported.value,
                            value=score.value,
                            low=score.low,
                            high=score.high,
                            deviation=reported.value - score.value,
                            source=reported.source,
                            suspected=reported.suspected,
                        )
                    )
    return found
