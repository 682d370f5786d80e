"""Rows that are there already: taken over by the protocol that asks for them, and told from those of older code."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime

from melp_bench.results import ResultRecord, write_result
from melp_bench.runs.plan import Plan, Row


def now() -> str:
    """Return the time in UTC, as rows have it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def take_over(plan: Plan, records: Iterable[ResultRecord]) -> list[ResultRecord]:
    """Write the rows of the plan that are there, as this protocol has them, and return those that had to be written.

    `records` are all rows of the plan's folder. A row's number does not depend on its protocol, so one that was made under
    another is copied, and one made under another content of this protocol goes on under its new hash. Where rows of other code
    stand beside a row that is asked for again, it is made current.
    """
    by_key: dict[str, list[ResultRecord]] = defaultdict(list)
    newest: dict[str, tuple[str, str]] = {}
    for record in records:
        by_key[record.key].append(record)
        since = record.current_since or record.created, record.key
        newest[record.inputs.but_for_code] = max(newest.get(record.inputs.but_for_code, ("", "")), since)
    written = []
    for row in plan.rows:
        if row.inputs.key not in by_key:
            continue
        mine = [record for record in by_key[row.inputs.key] if record.protocol == plan.protocol.name]
        kept = (mine or by_key[row.inputs.key])[0]
        changed = _as_planned(row, plan)
        if newest[row.inputs.but_for_code][1] != row.inputs.key:
            changed["current_since"] = now()
        taken = kept.model_copy(update=changed)
        if taken != kept or not mine:
            write_result(taken, plan.results)
            written.append(taken)
    return written


def code_changes(plan: Plan, records: Iterable[ResultRecord]) -> dict[str, int]:
    """Return how many rows of each model are to be made in the place of rows of other code."""
    kept: dict[str, set[str]] = defaultdict(set)
    for record in records:
        kept[record.inputs.but_for_code].add(record.key)
    changed: Counter[str] = Counter()
    for row in plan.missing():
        if kept[row.inputs.but_for_code]:
            changed[row.candidate.told] += 1
    return dict(changed)


def _as_planned(row: Row, plan: Plan) -> dict[str, object]:
    """Return the fields of a row that are the protocol's and not the number's."""
    return {
        "protocol": plan.protocol.name,
        "protocol_revision": plan.protocol.revision,
        "protocol_hash": plan.protocol.hash,
        "evaluation_label": row.planned.evaluation.label,
        "order": row.planned.order,
        "setting": row.planned.measurement.setting,
    }
