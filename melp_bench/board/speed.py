"""Measured speeds beside the scores: a table per machine and work, and the speed of the encoder that a method is built on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from melp_bench.board.escape import plain
from melp_bench.board.sections import Method, Table
from melp_bench.throughput.rows import ECG_ENCODER, SpeedRow

HOW = (
    "Encoders alone, with random weights, each in a process of its own: median and quartiles of records per second, peak "
    "memory, parameters, and floating-point operations of one record's forward pass."
)


@dataclass(frozen=True)
class SpeedTable:
    """What was measured by the same work on the same machine, fastest first."""

    work: str
    machine: str
    rows: tuple[SpeedRow, ...]

    def of(self, method: Method) -> SpeedRow | None:
        """Return the speed of exactly the encoder, with its options, that the method's recipe names; None if not measured."""
        recipe = method.records[0].inputs.model.get("recipe")
        encoder = recipe.get("encoder") if isinstance(recipe, dict) else None
        if not isinstance(encoder, dict):
            return None
        wanted = (encoder.get("name"), encoder.get("options"))
        return next((row for row in self.rows if (row.name, row.options) == wanted), None)


def speed_tables(rows: Iterable[SpeedRow]) -> list[SpeedTable]:
    """Return the tables of ECG encoders; the order of the rows does not matter."""
    groups: dict[tuple[str, str], list[SpeedRow]] = defaultdict(list)
    for row in (row for row in rows if row.kind == ECG_ENCODER):
        at, mode = row.environment, {"forward": "forward", "train": "forward and backward"}[row.work.mode]
        number = at.get("threads", "?")
        threads = f", {number} thread{'' if number == '1' else 's'}" if row.work.device == "cpu" else ""
        work = f"{mode}, batch {row.work.batch}, {plain(row.work.dtype)}"
        machine = plain(f"{at.get('device_name', row.work.device)}{threads}, torch {at.get('torch', 'unknown')}")
        groups[work, machine].append(row)
    return [
        SpeedTable(work, machine, tuple(sorted(members, key=lambda row: (-row.records_per_second, row.key))))
        for (work, machine), members in sorted(groups.items())
    ]


def speeds_beside(table: Table, speeds: Iterable[SpeedTable]) -> list[SpeedTable]:
    """Return those speeds that were measured of an encoder of the table."""
    return [measured for measured in speeds if any(measured.of(method) for method in table.methods)]
