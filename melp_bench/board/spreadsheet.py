"""The board as CSV and Parquet: one line per score with its interval; of several seeds their mean, then each of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from melp_bench.board.escape import csv_text, plain
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

_BOOLEANS = ("generated", "higher_is_better", "in_best_group")
_INTEGERS = ("protocol_revision", "evaluation_version", "rank")
_FLOATS = ("parameters", "records_per_second", "seconds")
Text = Callable[[object], str]


def render_csv(sections: Sequence[Section]) -> str:
    """Return the whole board; text cells are guarded against spreadsheets that run formulas."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(_lines(sections, csv_text))
    return file.getvalue()


def render_parquet(sections: Sequence[Section]) -> bytes:
    """Return the whole board as a Parquet file: numbers as numbers, missing where the CSV is empty, and text as it is."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names, *lines = _lines(sections, plain)
    columns = dict(zip(names, zip(*lines, strict=True), strict=True)) if lines else dict.fromkeys(names, ())
    table = pa.table({name: _typed(name, cells, {*_FIXED, *_TAIL}) for name, cells in columns.items()})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return cast(bytes, sink.getvalue().to_pybytes())


def _typed(name: str, cells: Sequence[str], text: Container[str]) -> Any:
    """Return a column of the CSV with the type of what it holds."""
    import pyarrow as pa

    if name in _BOOLEANS:
        return pa.array([{"true": True, "false": False}.get(cell) for cell in cells], pa.bool_())
    if name in _INTEGERS:
        return pa.array([int(cell) if cell else None for cell in cells], pa.int64())
    if name not in text or name in _FLOATS:
        return pa.array([float(cell) if cell else None for cell in cells], pa.float64())
    return pa.array(cells, pa.string())


def _lines(sections: Sequence[Section], text: Text) -> Iterator[list[str]]:
    """Yield the head and then every line; `text` makes words harmless where they are read."""
    metrics = dict(sorted(merged(column.metrics for s in sections for table in s.tables for column in table.columns).items()))
    spread = [f"{metric}{end}" for metric in metrics for end in ("", "_low", "_high")]
    yield [*_FIXED, *map(text, spread), *_TAIL]
    for section in sections:
        for label, column, cell, corpora in _cells(section):
            yield [*_head(section, label, column, cell, text), *_scores(cell, metrics), *_tail(cell, corpora, text)]


def _cells(section: Section) -> Iterator[tuple[str, Column, Cell, list[str]]]:
    for table in section.tables:
        for column in table.columns:
            for method in table.methods:
                if (cell := column.cells.get(method.anchor)) is None:
                    continue
                yield method.label, column, cell, method.corpora
                for record in cell.seeds if len(cell.seeds) > 1 else ():
                    yield method.label, column, replace(cell, record=record, standings={}, seeds=(record,)), method.corpora


def _head(section: Section, label: str, column: Column, cell: Cell, text: Text) -> list[str]:
    record, standing, metric = cell.record, cell.standings.get(column.primary or ""), column.metric
    return [
        text(section.protocol),
        str(section.revision),
        text(section.hash),
        str(section.generated).lower(),
        text(record.evaluation),
        str(record.evaluation_version),
        text(record.task),
        text(record.setting),
        text(label),
        "; ".join(str(s) for r in cell.seeds if (s := r.inputs.pretraining_seed) is not None),
        record.status,
        text(record.reason),
        text(column.primary or ""),
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


def _tail(cell: Cell, corpora: list[str], text: Text) -> list[str]:
    record, outcome = cell.record, scored_outcome(cell.record)
    return [
        text("; ".join(f"{name}: {why}" for name, why in sorted(outcome.not_measured.items())) if outcome else ""),
        text("; ".join(outcome.excluded if outcome else ())),
        text("; ".join(outcome.rare if outcome else ())),
        text("; ".join(cell.leaks)),
        text(cell.overlap),
        text(record.facts.get("parameters", "")),
        text(record.facts.get("records_per_second", "")),
        text("; ".join(corpora)),
        text(record.created),
        f"{record.seconds:.3f}",
        cell.tier,
        text(record.predictions),
        text(record.key),
    ]
