"""Patient identification: is the record nearest to a record one of the same person? Nothing is fitted.

Of the scored records, those of patients with at least two take part as queries; every scored record but the query itself is a
candidate. Candidates are ordered by the cosine of embeddings; the rank is that of the best candidate of the same patient, and
of equals it comes last. A model that finds people by their ECG has learned more than disease (Narotamo et al. 2024 and others
measure the like), which a reader may want to know of it before sharing its features.
Shapes: N scored records, Q queries, P embedding channels.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

import melp_bench as mb

CHUNK = 256


class PatientIdentification(mb.Evaluation):
    """One row per task, whose classes count nothing."""

    version = 1
    label = "patient identification"
    metrics = ("recall-at-1", "recall-at-5", "recall-at-10", "median-rank")

    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        """Return the ranks (1, Q, 1) of the nearest record of the same patient.

        Raises:
            NotApplicable: no patient has two scored records.
        """
        task = context.task(measurement.task)
        patients = task.patients[task.scored]
        _, group, counts = np.unique(patients, return_inverse=True, return_counts=True)
        queries = np.flatnonzero(counts[group] > 1)
        if len(queries) == 0:
            raise mb.NotApplicable(f"no patient has two of the {len(patients)} scored records of {task.name!r}")
        embedding = F.normalize(context.features(task).embedding[task.scored], dim=-1)
        found = ranks_of_same(embedding, torch.from_numpy(group), torch.from_numpy(queries))
        chosen = task.scored[queries]
        return mb.Predictions(
            scores=found[None, :, None].astype(np.float64),
            labels=np.ones((len(queries), 1)),
            record_ids=task.record_ids[chosen],
            patients=task.patients[chosen],
            classes=("same patient",),
            kind="value",
            details={"queries": len(queries), "candidates": len(patients) - 1, "patients": len(np.unique(group[queries]))},
        )


def ranks_of_same(embedding: Tensor, group: Tensor, queries: Tensor) -> NDArray[np.int64]:
    """Return the rank of the nearest other record of the same group, (Q,), for unit vectors (N, P) and groups (N,)."""
    parts = []
    for rows in torch.split(queries, CHUNK):
        cosine = embedding[rows] @ embedding.T  # (q, N)
        itself = rows[:, None] == torch.arange(len(embedding))
        same = (group[rows][:, None] == group) & ~itself
        best = cosine.masked_fill(~same, float("-inf")).amax(dim=1, keepdim=True)
        others = (cosine >= best) & ~same & ~itself
        parts.append(1 + others.sum(dim=1))
    return np.asarray(torch.cat(parts).numpy(), dtype=np.int64)


@mb.hookimpl
def melp_evaluations() -> list[mb.Entry[mb.Evaluation]]:
    """Return patient identification."""
    return [
        mb.Entry(
            "patient_identification",
            PatientIdentification,
            "the rank of the nearest record of the same patient",
            "https://arxiv.org/abs/2103.00020",
            "MIT",
        )
    ]
