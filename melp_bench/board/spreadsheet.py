"""The board as CSV: one line per row, every score with its interval."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from melp_bench.board.escape import csv_text
from melp_bench.board.sections import Cell, Section, scores_of

_FIXED = (
    *("protocol", "protocol_revision", "protocol_hash", "generated", "evaluation", "evaluation_version", "task", "setting"),
    *("model", "status", "reason", "rank", "in_best_group"),
)
_TAIL = (
    *("excluded", "rare", "pretraining_overlap", "overlap_check", "parameters", "records_per_second", "corpora"),
    *("created", "seconds", "key"),
)


def render_csv(sections: Sequence[Section]) -> str:
    """Return the whole board; text cells are guarded against spreadsheets that run formulas."""
    metrics = sorted({metric for section in sections for record in section.records for metric in scores_of(record)})
    spread = [f"{metric}{end}" for metric in metrics for end in ("", "_low", "_high")]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*_FIXED, *map(csv_text, spread), *_TAIL])
    for section in sections:
        for label, cell, corpora in _cells(section):
            writer.writerow([*_head(section, label, cell), *_scores(cell, metrics), *_tail(cell, corpora)])
    return file.getvalue()


def _cells(section: Section) -> Iterator[tuple[str, Cell, list[str]]]:
    for table in section.tables:
        for column in table.columns:
            for method in table.methods:
                if method.anchor in column.cells:
                    yield method.label, column.cells[method.anchor], method.corpora


def _head(section: Section, label: str, cell: Cell) -> list[str]:
    record, standing = cell.record, cell.standings.get("auroc")
    return [
        csv_text(section.protocol),
        str(section.revision),
        csv_text(section.hash),
        str(section.generated).lower(),
        csv_text(record.evaluation),
        str(record.evaluation_version),
        csv_text(record.task),
        csv_text(record.setting),
        csv_text(label),
        record.status,
        csv_text(record.reason),
        str(standing.rank) if standing else "",
        str(standing.best).lower() if standing else "",
    ]


def _scores(cell: Cell, metrics: Sequence[str]) -> list[str]:
    found = [cell.score(metric) for metric in metrics]
    return [
        f"{x:.6f}" if score else "" for score in found for x in ((score.value, score.low, score.high) if score else (0, 0, 0))
    ]


def _tail(cell: Cell, corpora: list[str]) -> list[str]:
    record, outcome = cell.record, cell.record.outcome
    return [
        csv_text("; ".join(outcome.excluded if outcome else ())),
        csv_text("; ".join(outcome.rare if outcome else ())),
        csv_text("; ".join(cell.leaks)),
        csv_text(cell.overlap),
        csv_text(record.facts.get("parameters", "")),
        csv_text(record.facts.get("records_per_second", "")),
        csv_text("; ".join(corpora)),
        csv_text(record.created),
        f"{record.seconds:.3f}",
        csv_text(record.key),
    ]
