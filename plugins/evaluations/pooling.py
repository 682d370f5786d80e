"""From fits, one per part of a split, to predictions in which every test record is scored once.

- Holdout: the score is what the fit says, and validation records are scored beside the test records.
- Cross-validation: every record is scored by the fit of the part in which it is test, and all are pooled and measured once; the
  same for validation. Fits of different parts can have different scales (probes stop at different epochs). Where they do, each
  is put on that of its own training part first: (score - mean) / deviation per class over the part's training records, whose
  labels play no role here. Within a part this changes no order; what comes out is no logit any more.

Shapes: S seeds, N records, n records asked for, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melp_bench.errors import NotApplicable
from melp_bench.evaluations import TaskRecords
from melp_bench.predictions import Kind, Predictions
from melp_bench.splits import Positions

Scorer = Callable[[int, Positions], NDArray[np.floating[Any]]]
"""(part, positions (n,)) -> scores (S, n, C)."""


def require_parts(task: TaskRecords) -> None:
    """Check that there is something to fit on, to choose by and to score in every part.

    Raises:
        NotApplicable: a part of the split has no training, validation or test record.
    """
    for part in task.parts:
        for name, where in (("training", part.train), ("validation", part.validation), ("test", part.test)):
            if len(where) == 0:
                raise NotApplicable(f"no {name} record among the {len(task)} records of {task.name!r}")
    if not task.parts:
        raise NotApplicable(f"no record of {task.name!r} to fit on")


def pooled(
    task: TaskRecords,
    score: Scorer,
    *,
    kind: Kind,
    scales_differ: bool,
    details: Mapping[str, Any],
    tested: Scorer | None = None,
) -> Predictions:
    """Return the predictions of `score`, or of `tested` where the test records are seen otherwise than the others."""
    several = len(task.parts) > 1
    test: list[NDArray[np.floating[Any]]] = []
    validation: list[NDArray[np.floating[Any]]] = []
    for number, part in enumerate(task.parts):
        there, beside = (tested or score)(number, part.test), score(number, part.validation)  # (S, n, C)
        if several and scales_differ:
            known = score(number, part.train).astype(np.float64)
            mean, deviation = known.mean(axis=1, keepdims=True), known.std(axis=1, keepdims=True)  # (S, 1, C)
            scale = np.where(deviation > 0, deviation, 1.0)
            there, beside = ((x.astype(np.float64) - mean) / scale for x in (there, beside))
        test.append(there)
        validation.append(beside)
    where, chosen = (np.concatenate([getattr(part, name) for part in task.parts]) for name in ("test", "validation"))
    order, beside_order = np.argsort(where, kind="stable"), np.argsort(chosen, kind="stable")
    scored = where[order]
    return Predictions(
        scores=np.concatenate(test, axis=1)[:, order],
        labels=task.labels[scored],
        record_ids=task.record_ids[scored],
        patients=task.patients[scored],
        classes=task.classes,
        kind="ranking" if several and scales_differ else kind,
        validation=(np.concatenate(validation, axis=1)[:, beside_order], task.labels[chosen[beside_order]]),
        details=details,
    )
