"""Two models class by class, from the predictions kept beside their rows: DeLong's test, with Holm's correction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from melp_bench.canonical import digest
from melp_bench.errors import UserError
from melp_bench.metrics import Difference, delong_difference, holm
from melp_bench.prediction_files import read_predictions
from melp_bench.predictions import Predictions
from melp_bench.results import ResultRecord, current, read_results

MEASURED = {"evaluation", "task", "tasks", "datasets"}


@dataclass(frozen=True)
class ClassComparison:
    """One class: the first model's AUROC minus the second's, and its p-value adjusted for the classes of the measurement."""

    name: str
    positives: int
    records: int
    difference: Difference
    adjusted_p: float


def compare_models(results: Path, first: str, second: str) -> dict[str, list[ClassComparison]]:
    """Return the classes of every measurement that both models have predictions of, by what was measured.

    Raises:
        UserError: they share none, or predictions are missing or damaged.
    """
    rows, _ = current(record for record in read_results(results) if record.predictions and record.model in (first, second))
    of_second = {_measurement(record): record for record in rows if record.model == second}
    pairs = [(record, of_second.get(_measurement(record))) for record in rows if record.model == first]
    found: dict[str, list[ClassComparison]] = {}
    for one, two in pairs:
        if two is not None and (classes := _compared(one, two, results)):
            found[f"{one.task} {one.evaluation} {one.setting}".strip()] = classes
    if not found:
        raise UserError(
            f"{str(results)!r} has no two rows of {first!r} and {second!r} with predictions of the same records; run both "
            "models under one protocol"
        )
    return found


def _measurement(record: ResultRecord) -> str:
    """Return the digest of what must be equal for two rows to be compared."""
    return digest([record.protocol, record.inputs.model_dump(mode="json", include=MEASURED)])


def _compared(first: ResultRecord, second: ResultRecord, results: Path) -> list[ClassComparison]:
    """Return the classes with a positive and a negative; none of quantities, or of other records."""
    one, two = (read_predictions(results, record.predictions) for record in (first, second))
    if one.kind == "value" or two.kind == "value" or not _same_records(one, two):
        return []
    positives = one.labels.sum(axis=0)
    scored = [c for c in range(len(one.classes)) if 0 < positives[c] < len(one.labels)]
    differences = [delong_difference(one.scores[..., c], two.scores[..., c], one.labels[:, c], one.patients) for c in scored]
    adjusted = holm([difference.p for difference in differences])
    return [
        ClassComparison(one.classes[c], int(positives[c]), len(one.labels), difference, p)
        for c, difference, p in zip(scored, differences, adjusted, strict=True)
    ]


def _same_records(one: Predictions, two: Predictions) -> bool:
    return one.classes == two.classes and all(
        np.array_equal(getattr(one, name), getattr(two, name)) for name in ("record_ids", "patients", "labels")
    )
