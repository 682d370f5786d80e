"""Rows checked against the predictions they were measured on: every score and interval is computed again, without a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from melp_bench.code_digest import code_digest
from melp_bench.errors import NotApplicable, UserError
from melp_bench.home import TEMPORARY
from melp_bench.locks import LOCK_FILES
from melp_bench.measure import measure, unpack
from melp_bench.metrics import Metric
from melp_bench.plugins import Catalogue
from melp_bench.prediction_files import FOLDER, predictions_path, read_predictions
from melp_bench.predictions import Predictions
from melp_bench.results import Interval, Outcome, ResultRecord, Score, is_row_name, read_result
from melp_bench.runs.components import build_component
from melp_bench.runs.versions import ROWS

CLOSE = 1e-6
"""Two numbers differ if they are further apart, of their size or of 1; other processors round otherwise."""

COUNTS = ("records", "patients")
"""Details that an evaluation may say in its own way; the classes and the digest of what was resampled hold them, too."""

State = Literal["verified", "nothing scored", "no predictions", "absent", "other code", "refused"]
Find = Callable[[str], Predictions]
"""Finds predictions by their SHA-256, or raises UserError."""


@dataclass(frozen=True)
class RowCheck:
    """What came of checking a row.

    `verified`: its scores and intervals are those of its predictions. `nothing scored`: it holds a reason and no number.
    `no predictions`: it was made before they were kept. `absent`: it names a file that is not here. `other code`: metrics or
    intervals have changed since, and it does not come out of today's. `refused`: its numbers are not those of its predictions,
    or these are damaged.
    """

    record: ResultRecord
    state: State
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.record.cell} ({self.record.key[:12]}): {self.reason or self.state}"


@dataclass(frozen=True)
class ResultsCheck:
    """A folder of results: its rows checked, files that are damaged or no rows, and files that were passed over."""

    checks: tuple[RowCheck, ...]
    left_out: tuple[str, ...]
    passed_over: tuple[str, ...]

    def in_state(self, state: State) -> list[RowCheck]:
        """Return the rows of that state."""
        return [check for check in self.checks if check.state == state]


def verify_results(results: Path, catalogue: Catalogue) -> ResultsCheck:
    """Return what comes of checking every file below `results`."""
    checks: list[RowCheck] = []
    left_out: list[str] = []
    passed_over: list[str] = []
    named: set[Path] = set()
    for path in _files(results):
        if path.parent == results / FOLDER and path.suffix == ".parquet":
            continue
        if not is_row_name(path, results):
            passed_over.append(f"{path.relative_to(results)}: no row is named so")
            continue
        try:
            record = read_result(path)
        except UserError as error:
            left_out.append(str(error))
            continue
        if record.predictions:
            named.add(path := predictions_path(results, record.predictions))
            if not path.is_file():
                checks.append(RowCheck(record, "absent", f"there is no file of predictions {str(path)!r}"))
                continue
        checks.append(verify_row(record, lambda sha256: read_predictions(results, sha256), catalogue))
    extra = [path for path in _files(results) if path.parent == results / FOLDER and path.suffix == ".parquet"]
    passed_over += [f"{path.relative_to(results)}: no row names it" for path in extra if path not in named]
    return ResultsCheck(tuple(checks), tuple(left_out), tuple(passed_over))


def _files(results: Path) -> Iterator[Path]:
    for path in sorted(results.rglob("*")):
        if path.is_file() and not path.name.startswith(TEMPORARY) and path.name not in LOCK_FILES:
            yield path


def verify_row(record: ResultRecord, find: Find, catalogue: Catalogue) -> RowCheck:
    """Return what comes of computing the row's numbers again from its predictions."""
    if record.outcome is None or record.status != "scored":
        scored = record.outcome is not None or record.status == "scored"
        return RowCheck(record, "refused", "it is not scored and has scores") if scored else RowCheck(record, "nothing scored")
    if not record.predictions:
        return RowCheck(record, "no predictions")
    try:
        predictions = find(record.predictions)
        again = measure(predictions, row_metrics(record, catalogue), Interval.model_validate(record.inputs.interval))
    except (UserError, NotApplicable, ValueError) as error:
        return RowCheck(record, "refused", str(error))
    differing = differences(record.outcome, again)
    if not differing:
        return RowCheck(record, "verified")
    if changed := _other_code(record, catalogue):
        return RowCheck(record, "other code", f"made by another {', '.join(changed)}; run again to measure it anew")
    more = f", and {len(differing) - 1} more" if len(differing) > 1 else ""
    return RowCheck(record, "refused", f"its predictions give other numbers: {differing[0]}{more}")


def row_metrics(record: ResultRecord, catalogue: Catalogue) -> list[Metric]:
    """Return the metrics that the row was measured by, the primary one first.

    Raises:
        UserError: the row does not say them, or one is not installed.
    """
    asked = record.inputs.evaluation.get("metrics")
    if not isinstance(asked, list) or not asked or not all(isinstance(one, dict) and "name" in one for one in asked):
        raise UserError("the row does not say by which metrics it was measured")
    return [build_component(catalogue.metrics[str(one["name"])], dict(one.get("options", {}))) for one in asked]


def _other_code(record: ResultRecord, catalogue: Catalogue) -> list[str]:
    """Return which of the parts that make numbers of predictions are not those that made the row."""
    now = {f"metric {entry.name}": code_digest(entry) for entry in catalogue.metrics}
    changed = [name for name, code in record.inputs.code.items() if name in now and now[name] != code]
    return changed + [name for name in ("bootstrap", "measure") if record.inputs.versions.get(name) != ROWS[name]]


def differences(recorded: Outcome, again: Outcome) -> list[str]:
    """Return in words where two outcomes differ in anything that predictions decide; details that do not are not compared."""
    found = [*_score_differences("", recorded.scores, again.scores)]
    kept = {entry.name: entry for entry in recorded.classes}
    for entry in again.classes:
        mine = kept.pop(entry.name, None)
        if mine is None or (mine.positives, mine.records) != (entry.positives, entry.records):
            support = "is missing" if mine is None else f"has {mine.positives} of {mine.records}"
            found.append(f"class {entry.name!r} {support}, and is {entry.positives} of {entry.records}")
            continue
        found += _score_differences(f"class {entry.name!r} ", mine.scores, entry.scores)
    found += [f"class {name!r} is not among the predictions" for name in kept]
    for what in ("primary", "metrics", "excluded", "rare", "not_measured"):
        if getattr(recorded, what) != getattr(again, what):
            found.append(f"{what} is {getattr(recorded, what)!r}, and comes out as {getattr(again, what)!r}"[:300])
    return found + list(_resample_differences(recorded, again)) + list(_detail_differences(recorded, again))


def _score_differences(of: str, recorded: dict[str, Score], again: dict[str, Score]) -> Iterator[str]:
    for name in sorted(recorded.keys() | again.keys()):
        one, two = recorded.get(name), again.get(name)
        if one is None or two is None or not _close((one.value, one.low, one.high), (two.value, two.low, two.high)):
            yield f"{of}{name} is {_told(one)}, and comes out as {_told(two)}"


def _resample_differences(recorded: Outcome, again: Outcome) -> Iterator[str]:
    one, two = recorded.resamples, again.resamples
    if one is None or two is None:
        return
    if one.origin != two.origin:
        yield "the records, labels, patients or draws that were resampled are others"
        return
    try:
        same = _close(unpack(one.values), unpack(two.values))
    except ValueError:
        same = False
    if not same:
        yield "the resampled values are others"


def _detail_differences(recorded: Outcome, again: Outcome) -> Iterator[str]:
    for name, value in again.details.items():
        if name in COUNTS:
            continue
        mine = recorded.details.get(name)
        same = _close(mine, value) if isinstance(value, int | float | list) and isinstance(mine, int | float | list) else False
        if not same:
            yield f"{name} is {mine!r}, and comes out as {value!r}"[:300]


def _close(one: Iterable[float] | float, two: Iterable[float] | float) -> bool:
    """Return whether numbers, or as many of them, are equal but for rounding."""
    a, b = np.asarray(one, dtype=np.float64), np.asarray(two, dtype=np.float64)
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=CLOSE, atol=CLOSE, equal_nan=True))


def _told(score: Score | None) -> str:
    return "not there" if score is None else f"{score.value:.6g} [{score.low:.6g}, {score.high:.6g}]"
