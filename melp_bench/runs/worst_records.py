"""The records of a task that models score worst, from kept predictions, to be looked at on ECG paper.

A record's error under a model is its own share of what the macro AUROC lacks: for each class, how many of the records with the
other answer the model puts on the wrong side of it (a tie is half), mean over classes; of quantities, the distance from what
is true. Errors of several probe seeds, and of several models, are averaged.

Shapes: S probe seeds, N records, C classes.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined
from numpy.typing import NDArray

from melp_bench.board.escape import plain
from melp_bench.errors import UserError
from melp_bench.home import atomic_write, home, make_folder
from melp_bench.prediction_files import predictions_path, read_predictions
from melp_bench.predictions import Predictions
from melp_bench.registry import nearest
from melp_bench.results import ResultRecord, current, read_results
from melp_bench.store import Store, open_store

PAGE, TEMPLATE = "index.html", "worst_records.html.j2"
OTHERS = 3  # classes that a record has not, shown where models score them highest
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClassLine:
    """One class of a record: whether it has it, and each model's score, in the order of the models."""

    name: str
    is_true: bool
    scores: tuple[float, ...]


@dataclass(frozen=True)
class WorstRecord:
    """A record, its error over all models and by each, and the classes to look at."""

    record_id: str
    error: float
    errors: tuple[float, ...]
    classes: tuple[ClassLine, ...]


@dataclass(frozen=True)
class WorstRecords:
    """The worst records of a task under one measurement, the worst first."""

    task: str
    measurement: str
    fingerprint: str  # of the store that the records are in
    models: tuple[str, ...]
    score: str  # what a score is
    num_records: int
    records: tuple[WorstRecord, ...]


def record_errors(predictions: Predictions) -> Floats:
    """Return the error of each record, (N,), mean over probe seeds; NaN where no class tells it."""
    scores, labels = predictions.scores.astype(np.float64), predictions.labels
    if predictions.kind == "value":
        return np.asarray(np.abs(scores - labels).mean(axis=(0, 2)))
    found = np.full(scores.shape, np.nan)  # (S, N, C)
    for c in range(scores.shape[2]):
        has = labels[:, c].astype(bool)
        if has.all() or not has.any():
            continue
        for s in range(len(scores)):
            values = scores[s, :, c]
            found[s, has, c] = _share_above(values[~has], values[has])
            found[s, ~has, c] = 1 - _share_above(values[has], values[~has])
    told = ~np.isnan(found[0]).all(axis=1)  # (N,)
    errors = np.full(len(labels), np.nan)
    errors[told] = np.nanmean(found[:, told], axis=(0, 2))
    return errors


def _share_above(values: Floats, of: Floats) -> Floats:
    """Return for each of `of` which share of `values` is above it, an equal one counting half."""
    ordered = np.sort(values)
    above = len(values) - np.searchsorted(ordered, of, side="right")
    equal = len(values) - np.searchsorted(ordered, of, side="left") - above
    return np.asarray((above + 0.5 * equal) / len(values))


def worst_records(
    results: Path, task: str, *, measurement: str = "", models: Sequence[str] = (), number: int = 12
) -> WorstRecords:
    """Return the records of a task that models score worst under one measurement, "linear_probe 100 %".

    Without `measurement` it is the one that most models have, the last of those in their protocol.

    Raises:
        UserError: no row with predictions is like that, or predictions are damaged.
    """
    rows = _rows(results, task, models)
    named: dict[str, list[ResultRecord]] = {}
    for row in rows:
        named.setdefault(f"{row.evaluation} {row.setting}".strip(), []).append(row)
    if measurement and measurement not in named:
        raise UserError(
            f"no measurement {measurement!r} of {task}{nearest(measurement, list(named))} Known: {', '.join(named)}"
        )
    chosen = measurement or max(
        named, key=lambda name: (len({r.model for r in named[name]}), max(r.order for r in named[name]))
    )
    by_model = {row.model: row for row in sorted(named[chosen], key=lambda row: (row.model, row.current_since, row.key))}
    read = {model: read_predictions(results, row.predictions) for model, row in by_model.items()}
    first = next(iter(read.values()))
    alike = {model: one for model, one in read.items() if np.array_equal(one.record_ids, first.record_ids)}
    errors = np.stack([record_errors(one) for one in alike.values()])  # (models, N)
    overall = np.nan_to_num(errors.mean(axis=0), nan=-1.0)
    order = np.lexsort((first.record_ids, -overall))[:number]
    said = {model: _said(one) for model, one in alike.items()}
    return WorstRecords(
        task=task,
        measurement=chosen,
        fingerprint=next(iter(by_model.values())).inputs.datasets.get(task.rpartition("->")[2].partition("/")[0], ""),
        models=tuple(alike),
        score="probability" if first.kind in ("logit", "probability") else "estimate" if first.kind == "value" else "score",
        num_records=len(first.record_ids),
        records=tuple(
            WorstRecord(str(first.record_ids[i]), float(overall[i]), tuple(map(float, errors[:, i])), _classes(first, said, i))
            for i in order
            if overall[i] >= 0
        ),
    )


def _rows(results: Path, task: str, models: Sequence[str]) -> list[ResultRecord]:
    """Return the current rows of a task, and of these models if some are named, whose predictions are here.

    Raises:
        UserError: there is none.
    """
    kept, _ = current(row for row in read_results(results, lambda told: None) if row.status == "scored")
    here = [row for row in kept if row.predictions and predictions_path(results, row.predictions).is_file()]
    tasks = {row.task for row in here}
    if task not in tasks:
        raise UserError(
            f"no row of task {task!r} with predictions{nearest(task, sorted(tasks))} Known: {', '.join(sorted(tasks))}"
        )
    mine = [row for row in here if row.task == task]
    known = sorted({row.model for row in mine})
    for model in models:
        if model not in known:
            raise UserError(f"no model {model!r} with predictions of {task}{nearest(model, known)} Known: {', '.join(known)}")
    return [row for row in mine if not models or row.model in models]


def _said(predictions: Predictions) -> Floats:
    """Return what a model says, (N, C): probabilities where its scores are or become some, else its scores; mean over seeds."""
    scores = predictions.scores.astype(np.float64)
    with np.errstate(over="ignore"):
        return np.asarray((1 / (1 + np.exp(-scores)) if predictions.kind == "logit" else scores).mean(axis=0))


def _classes(first: Predictions, said: Mapping[str, Floats], record: int) -> tuple[ClassLine, ...]:
    """Return the classes that the record has, and those that it has not and models score highest."""
    truth = first.labels[record]
    scores = np.stack([values[record] for values in said.values()])  # (models, C)
    high = np.argsort(-scores.mean(axis=0), kind="stable")
    mine = [c for c in high if truth[c]] if first.kind != "value" else list(range(len(truth)))
    others = [c for c in high if not truth[c]][:OTHERS] if first.kind != "value" else []
    return tuple(ClassLine(first.classes[c], c in mine, tuple(map(float, scores[:, c]))) for c in [*mine, *others])


def find_store_of(fingerprint: str) -> Store | None:
    """Return the prepared store of that content; None where there is none here."""
    for manifest in sorted((home() / "stores").glob("*/store.json")):
        try:
            store = open_store(manifest.parent)
        except UserError:
            continue
        if store.fingerprint == fingerprint:
            return store
    return None


def write_worst_records(found: WorstRecords, store: Store | None, out: Path) -> Path:
    """Write the page of the records, drawn where their store is here, and return its path.

    Raises:
        UserError: it cannot be written.
    """
    pages = Environment(
        loader=FunctionLoader(lambda name: (resources.files("melp_bench.runs") / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters["plain"] = plain
    pictures = dict(_pictures(found.records, store)) if store is not None else {}
    make_folder(out)
    atomic_write(out / PAGE, pages.get_template(TEMPLATE).render(found=found, pictures=pictures).encode())
    return out / PAGE


def _pictures(records: Iterable[WorstRecord], store: Store) -> Iterable[tuple[str, str]]:
    from melp_bench.ecg_plot import plot_record

    place: dict[str, Any] = {str(name): position for position, name in enumerate(store.record_ids)}
    for record in records:
        if (position := place.get(record.record_id)) is None:
            continue
        content = io.BytesIO()
        plot_record(store.signal(position), title=plain(f"{store.name} · {record.record_id}")).savefig(
            content, format="png", dpi=100
        )
        yield record.record_id, f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
