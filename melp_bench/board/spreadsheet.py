"""The board as CSV: one line per score with its interval; of several pretraining seeds their mean, and then each of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from melp_bench.board.escape import csv_text
from melp_bench.board.figures import width_of
from melp_bench.board.sections import Cell, Column, Section, merged, scored_outcome
from melp_bench.results import MetricLabel

_FIXED = (
    *("protocol", "protocol_revision", "protocol_hash", "generated", "evaluation", "evaluation_version", "task", "setting"),
    *("model", "pretraining_seeds", "status", "reason", "ranked_by", "higher_is_better", "rank", "in_best_group"),
)
_TAIL = (
    *("not_measured", "excluded", "rare", "pretraining_overlap", "overlap_check", "parameters", "records_per_second"),
    *("corpora", "created", "seconds", "tier", "predictions", "key"),
)


def render_csv(sections: Sequence[Section]) -> str:
    """Return the whole board; text cells are guarded against spreadsheets that run formulas."""
    metrics = dict(sorted(merged(column.metrics for s in sections for table in s.tables for column in table.columns).items()))
    spread = [f"{metric}{end}" for metric in metrics for end in ("", "_low", "_high")]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*_FIXED, *map(csv_text, spread), *_TAIL])
    for section in sections:
        for label, column, cell, corpora in _cells(section):
            writer.writerow([*_head(section, label, column, cell), *_scores(cell, metrics), *_tail(cell, corpora)])
    return file.getvalue()


def _cells(section: Section) -> Iterator[tuple[str, Column, Cell, list[str]]]:
    for table in section.tables:
        for column in table.columns:
            for method in table.methods:
                if (cell := column.cells.get(method.anchor)) is None:
                    continue
                yield method.label, column, cell, method.corpora
                for record in cell.seeds if len(cell.seeds) > 1 else ():
                    yield method.label, column, replace(cell, record=record, standings={}, seeds=(record,)), method.corpora


def _head(section: Section, label: str, column: Column, cell: Cell) -> list[str]:
    record, standing, metric = cell.record, cell.standings.get(column.primary or ""), column.metric
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
        "; ".join(str(s) for r in cell.seeds if (s := r.inputs.pretraining_seed) is not None),
        record.status,
        csv_text(record.reason),
        csv_text(column.primary or ""),
        str(metric.higher_is_better).lower() if metric else "",
        str(standing.rank) if standing else "",
        str(standing.best).lower() if standing else "",
    ]


def _scores(cell: Cell, metrics: Mapping[str, MetricLabel]) -> list[str]:
    """Return value, low and high by each metric: six decimals of what lies within one unit, else eight digits."""
    found: list[str] = []
    for name, label in metrics.items():
        score, width = cell.score(name), width_of(label)
        form = ".6f" if width is not None and width <= 2 else ".8g"
        found += [f"{x:{form}}" for x in (score.value, score.low, score.high)] if score else ["", "", ""]
    return found


def _tail(cell: Cell, corpora: list[str]) -> list[str]:
    record, outcome = cell.record, scored_outcome(cell.record)
    return [
        csv_text("; ".join(f"{name}: {why}" for name, why in sorted(outcome.not_measured.items())) if outcome else ""),
        csv_text("; ".join(outcome.excluded if outcome else ())),
        csv_text("; ".join(outcome.rare if outcome else ())),
        csv_text("; ".join(cell.leaks)),
        csv_text(cell.overlap),
        csv_text(record.facts.get("parameters", "")),
        csv_text(record.facts.get("records_per_second", "")),
        csv_text("; ".join(corpora)),
        csv_text(record.created),
        f"{record.seconds:.3f}",
        cell.tier,
        csv_text(record.predictions),
        csv_text(record.key),
    ]
