"""What a store holds, counted: the table of a paper's appendix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from melp_bench.leads import LEADS
from melp_bench.splits import FOLDS
from melp_bench.store.reader import Store


@dataclass(frozen=True)
class TaskCensus:
    """Positives of a task."""

    name: str
    classes: tuple[str, ...]
    num_records: int  # the task is about
    positives: NDArray[np.int64]  # (C, 10), by class and fold


@dataclass(frozen=True)
class Census:
    """Counts over the records of a store."""

    num_records: int
    num_patients: int
    most_per_patient: int
    rates_hz: dict[float, int]
    leads: dict[tuple[str, ...], int]  # records by the leads they have, in the standard order, most first
    seconds: tuple[float, float, float]  # shortest, median, longest
    ages: tuple[float, float, float] | None  # youngest, median, oldest; None if no age is known
    unknown_ages: int
    sexes: dict[str, int]  # "F", "M", "" for unknown
    num_reports: int
    folds: NDArray[np.int64]  # (10,) records per fold
    verdicts: dict[str, int]  # ok, repaired, quarantined
    repairs: dict[str, int]  # records by what was mended, most first
    quality_flags: dict[str, int]  # records by what looks wrong and was left, most first
    quarantined: dict[str, int]  # records by why they are left out, most first
    tasks: tuple[TaskCensus, ...]


def census(store: Store) -> Census:
    """Return the counts of a store."""
    seconds = store.num_samples / store.rates_hz
    known = store.ages[np.isfinite(store.ages)]
    per_patient = np.unique(store.patient_ids, return_counts=True)[1]
    repairs = pq.read_table(store.root / "index.parquet", columns=["repairs"])["repairs"].to_pylist()
    return Census(
        num_records=len(store),
        num_patients=len(per_patient),
        most_per_patient=int(per_patient.max()),
        rates_hz=dict(sorted(Counter(store.rates_hz.tolist()).items())),
        leads=dict(Counter(tuple(lead for lead in LEADS if lead in had) for had in store.leads).most_common()),
        seconds=_spread(seconds),
        ages=_spread(known) if len(known) else None,
        unknown_ages=len(store) - len(known),
        sexes=dict(sorted(Counter(store.sexes.tolist()).items(), reverse=True)),
        num_reports=sum(1 for report in store.reports if report.strip()),
        folds=np.array([(store.folds == fold).sum() for fold in FOLDS]),
        verdicts={**Counter(store.verdicts), "quarantined": sum(store.manifest.quarantined.values())},
        repairs=_most_first(repairs),
        quality_flags=_most_first(store.quality_flags),
        quarantined=dict(Counter(store.manifest.quarantined).most_common()),
        tasks=tuple(_task(store, name) for name in store.tasks),
    )


def _most_first(codes: Iterable[Sequence[str]]) -> dict[str, int]:
    """Return how many records have each code, whatever its detail."""
    return dict(Counter(code for record in codes for code in {text.split(":")[0] for text in record}).most_common())


def _spread(values: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(values.min()), float(np.median(values)), float(values.max())


def _task(store: Store, name: str) -> TaskCensus:
    labels = store.labels(name)
    positives = np.stack([labels[store.folds == fold].sum(axis=0) for fold in FOLDS], axis=1)
    return TaskCensus(name, store.task(name).classes, int(store.eligible(name).sum()), positives)
