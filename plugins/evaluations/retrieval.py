"""Retrieval: find a record's own report among all reports, and a report's own record among all records. Nothing is fitted.

Of the scored records with a report, the first by record id of each distinct report takes part (case and blanks at the ends do
not count), so that every query has one right answer. Candidates are ordered by cosine in the space shared with reports; the
rank of the right one is 1 where it comes first, and of equals it comes last, so that a collapsed model finds nothing.
Intervals resample the queries among one gallery.

Metrics as in CLIP-like retrieval (Radford et al. 2021, arXiv:2103.00020): recall at 1, 5 and 10, and the median rank.
Shapes: N distinct reports, D channels of the shared space.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

import melp_bench as mb

CHUNK = 256
DIRECTIONS = ("record to report", "report to record")


class Retrieval(mb.Evaluation):
    """One row per task, whose classes count nothing: its records are ranked in both directions."""

    version = 1
    label = "retrieval"
    metrics = ("recall-at-1", "recall-at-5", "recall-at-10", "median-rank")

    def fits(self, model: mb.ModelTraits) -> str | None:
        """Return why a model without a text encoder cannot be scored."""
        return None if model.reads_text else "needs a text encoder"

    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        """Return the ranks (1, N, 2) of the right report and of the right record.

        Raises:
            NotApplicable: the model reads no text, or fewer than two scored records have distinct reports.
        """
        task = context.task(measurement.task)
        chosen = first_of_each(task)
        if len(chosen) < 2:
            raise mb.NotApplicable(f"{len(chosen)} distinct reports among the scored records of {task.name!r}; needs two")
        texts = [task.reports[i].strip() for i in chosen]
        reports = torch.cat([context.encode_prompts(texts[i : i + CHUNK]) for i in range(0, len(texts), CHUNK)]).float()
        records = F.normalize(context.features(task).record[chosen], dim=-1)
        found = np.stack([ranks_of_own(records, reports), ranks_of_own(reports, records)], axis=1)  # (N, 2)
        return mb.Predictions(
            scores=found[None].astype(np.float64),
            labels=np.ones(found.shape),
            record_ids=task.record_ids[chosen],
            patients=task.patients[chosen],
            classes=DIRECTIONS,
            kind="value",
            details={"distinct_reports": len(chosen), "scored_records": len(task.scored)},
        )


def first_of_each(task: mb.TaskRecords) -> NDArray[np.int64]:
    """Return the position of the first scored record of each distinct report; records without a report are left out."""
    first: dict[str, int] = {}
    for position in task.scored.tolist():
        if told := task.reports[position].strip().casefold():
            first.setdefault(told, position)
    return np.array(sorted(first.values()), dtype=np.int64)


def ranks_of_own(queries: Tensor, candidates: Tensor) -> NDArray[np.int64]:
    """Return the rank of candidate i among all for query i, (N,), for unit vectors (N, D); of equals it comes last."""
    parts = []
    for start in range(0, len(queries), CHUNK):
        cosine = queries[start : start + CHUNK] @ candidates.T  # (n, N)
        own = cosine.gather(1, torch.arange(start, start + len(cosine))[:, None])
        parts.append((cosine >= own).sum(dim=1))
    return np.asarray(torch.cat(parts).numpy(), dtype=np.int64)


@mb.hookimpl
def melp_evaluations() -> list[mb.Entry[mb.Evaluation]]:
    """Return retrieval."""
    return [
        mb.Entry(
            "retrieval",
            Retrieval,
            "the rank of a record's report among distinct reports, and of a report's record",
            "https://arxiv.org/abs/2103.00020",
            "MIT",
        )
    ]
