"""What a board can say beyond its tables, as data: ranks over tasks, pairs with Holm, parts of uncertainty, deviations.

`statistics.json` beside the board has all of it; the summary in Markdown and LaTeX has the ranks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from melp_bench.board.aggregate_ranks import AggregateRank, RankedMethod, aggregate_ranks
from melp_bench.board.deviations import deviations
from melp_bench.board.escape import latex, markdown
from melp_bench.board.figures import signed
from melp_bench.board.paired_differences import PairDifference, pair_differences
from melp_bench.board.sections import Section
from melp_bench.board.seed_variance import seed_variances

RANK_NOTE = (
    "Mean rank over measurements with its 95 % interval; the rank interval holds for all methods at once, and methods that "
    "share a letter are not separable on these tasks. A missing cell stands for nothing: it is counted here, and a rank is "
    "made of the tasks that two methods share."
)


def render_statistics(sections: Sequence[Section]) -> str:
    """Return `statistics.json`: everything as plain JSON, no number without what it is of."""
    found = [
        {
            "protocol": section.protocol,
            "protocol_hash": section.hash,
            "generated": section.generated,
            "ranks": [one.plain() for one in aggregate_ranks(section)],
            "pairs": list(_pairs(section)),
            "seed_variances": list(_variances(section)),
            "deviations": [asdict(one) for one in deviations(section)],
        }
        for section in sections
    ]
    lines = (json.dumps(one, ensure_ascii=False, allow_nan=False, separators=(",", ":")) for one in found)
    return "[" + ",\n".join(lines) + "]\n"  # a line per section: a large board has tens of thousands of pairs


def _pairs(section: Section) -> Iterator[dict[str, Any]]:
    """Yield the pairs of each measurement that has some."""
    for table in section.tables:
        for column in table.columns:
            pairs = [_told(pair) for pair in pair_differences(column, table.methods)[1] if pair.known is not None]
            if pairs:
                yield {"task": column.task, "measurement": column.measurement, "metric": column.primary, "pairs": pairs}


def _told(pair: PairDifference) -> dict[str, Any]:
    numbers = {**(asdict(pair.known) if pair.known is not None else {}), "adjusted_p": pair.adjusted_p}
    rounded = {name: None if value is None else _finite(float(f"{value:.6g}")) for name, value in numbers.items()}
    return {"better": pair.better, "worse": pair.worse, **rounded}


def _variances(section: Section) -> Iterator[dict[str, Any]]:
    for column, label, found in seed_variances(section):
        told = {"task": column.task, "measurement": column.measurement, "metric": column.primary, "method": label}
        yield {**told, **asdict(found), "score": found.score.model_dump(mode="json")}


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def markdown_overview(section: Section) -> list[str]:
    """Return the ranks of a section as Markdown; nothing where it has fewer than two measurements or methods."""
    parts: list[str] = []
    for ranks in aggregate_ranks(section):
        lines = ["| method | mean rank | ranks | groups | wins | cells |", "|---|---|---|---|---|---|"]
        for place, method in enumerate(ranks.methods):
            cells = f"{method.cells} of {len(ranks.measurements)}{' ⚠' if method.missing else ''}"
            texts = (
                markdown(method.label),
                mean_rank(method),
                rank_span(method),
                method.groups or "–",
                mean_wins(ranks, place),
                cells,
            )
            lines.append(f"| {' | '.join(texts)} |")
        parts += [f"### Ranks over {markdown(rank_title(ranks))}", "\n".join(lines)]
        if ranks.missing:
            parts.append("⚠ missing: " + "; ".join(markdown(text) for text in _missing(ranks)) + ".")
    return [*parts, RANK_NOTE] if parts else []


def rank_title(ranks: AggregateRank) -> str:
    """Return over what methods are ranked, and what was resampled."""
    over = "tasks and patients resampled" if ranks.tasks_resampled else f"patients resampled, as {ranks.tasks} tasks are few"
    return f"{ranks.title}: {len(ranks.measurements)} measurements of {ranks.tasks} tasks ({over})"


def mean_rank(method: RankedMethod) -> str:
    """Return the mean rank with its interval as text."""
    if method.mean_rank is None:
        return "shares no task with another"
    return f"{method.mean_rank:.2f}" + ("" if method.low is None else f" [{method.low:.2f}, {method.high:.2f}]")


def rank_span(method: RankedMethod) -> str:
    """Return the rank interval as text."""
    if method.best_rank is None:
        return "–"
    return str(method.best_rank) if method.best_rank == method.worst_rank else f"{method.best_rank} to {method.worst_rank}"


def mean_wins(ranks: AggregateRank, place: int) -> str:
    """Return the mean of a method's win rates in percent."""
    rates = [rate for rate in ranks.win_rates[place] if rate is not None]
    return f"{100 * sum(rates) / len(rates):.0f} %" if rates else "–"


def _missing(ranks: AggregateRank) -> list[str]:
    return [f"{method.label} ({', '.join(method.missing)})" for method in ranks.methods if method.missing]


def latex_overview(section: Section) -> list[str]:
    """Return the ranks of a section as LaTeX tables (booktabs)."""
    tables = []
    for ranks in aggregate_ranks(section):
        rows = [
            " & ".join(
                (
                    latex(method.label),
                    mean_rank(method),
                    rank_span(method).replace("–", "--"),
                    latex(method.groups) or "--",
                    latex(mean_wins(ranks, place)).replace("–", "--"),
                    f"{method.cells}/{len(ranks.measurements)}",
                )
            )
            + r" \\"
            for place, method in enumerate(ranks.methods)
        ]
        missing = f" Missing: {latex('; '.join(_missing(ranks)))}." if ranks.missing else ""
        caption = f"Ranks over {latex(ranks.title)}, protocol {latex(section.protocol)}. {latex(RANK_NOTE)}{missing}"
        head = [r"\begin{table}", r"\centering\small", f"\\caption{{{caption}}}", r"\begin{tabular}{llllll}", r"\toprule"]
        names = r"Method & Mean rank & Ranks & Groups & Wins & Cells \\"
        tables.append("\n".join([*head, names, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}", r"\end{table}"]))
    return tables


def markdown_deviations(section: Section) -> list[str]:
    """Return reported minus measured numbers as Markdown; nothing where no paper reports a method of the board."""
    found = deviations(section)
    if not found:
        return []
    lines = ["| method | measurement | of a paper | here | difference in hundredths | source |", "|---|---|---|---|---|---|"]
    for one in found:
        here = f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"
        source = markdown(one.source) + (" (?)" if one.suspected else "")
        what = markdown(f"{one.task} {one.measurement}")
        told = (markdown(one.method), what, f"_{one.reported:.3f}_ reported", here, signed(100 * one.deviation, 1), source)
        lines.append(f"| {' | '.join(told)} |")
    return ["### Reported and measured", "\n".join(lines)]
