"""Representation: how a model's embeddings of the test records lie in their space. Nothing is fitted, no label is read.

- Effective rank (RankMe, Garrido et al. 2022, arXiv:2210.02885): the exponential of the entropy of the singular values' shares.
- Uniformity (Wang and Isola 2020, arXiv:2005.10242): the log of the mean over pairs of records of exp(-2 |x - y|^2), x and y of
  unit length; the lower, the more evenly they lie on the sphere.
- Alignment (of the same): the mean squared distance of two records of one patient, of unit length, the mean over the records
  that have another one.

None of them says that a model is good: a random encoder can lie evenly. They tell why a probe fails, or that a model collapsed.
A record's value is the whole's number plus its influence on it, see `metrics/geometry.py`. Models are compared with each other
by `melp-bench results similarity`.

Shapes: N scored records, P embedding channels.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

import melp_bench as mb

QUANTITIES = ("effective rank", "uniformity", "alignment")
"""The columns, in the order in which the metrics of `metrics/geometry.py` read them."""
CHUNK = 512
Floats = NDArray[np.float64]


class Representation(mb.Evaluation):
    """One row per task, whose classes count nothing."""

    version = 1
    label = "representation"
    metrics = ("effective-rank", "uniformity", "alignment")

    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        """Return what each record gives to the three quantities, (1, N, 3).

        Raises:
            NotApplicable: there are fewer than two scored records, or all embeddings are zero.
        """
        task = context.task(measurement.task)
        if len(task.scored) < 2:
            raise mb.NotApplicable(f"{len(task.scored)} scored records in {task.name!r}; needs two")
        embedding = context.features(task).embedding[task.scored].double()
        if not bool(embedding.any()):
            raise mb.NotApplicable("all embeddings are zero")
        units = F.normalize(embedding, dim=-1)
        aligned, paired = distances_within(units, task.patients[task.scored])
        values = np.stack([rank_values(embedding), uniformity_values(units), aligned], axis=1)
        counts = np.ones_like(values)
        counts[:, 2] = paired
        return mb.Predictions(
            scores=values[None],
            labels=counts,
            record_ids=task.record_ids[task.scored],
            patients=task.patients[task.scored],
            classes=QUANTITIES,
            kind="value",
            details={"channels": int(embedding.shape[1]), "records_with_another_of_the_patient": int(paired.sum())},
        )


def rank_values(embedding: Tensor) -> Floats:
    """Return the effective rank of `embedding` (N, P), float64, plus each record's influence on it, (N,).

    With singular values s, left vectors u and shares p = s / sum s of entropy H, a record's weight moves s_k by u_k^2 s_k / 2,
    and so the rank, exp H, by -exp(H) / 2 times the sum over k of u_k^2 p_k (log p_k + H).
    """
    left, values, _ = torch.linalg.svd(embedding, full_matrices=False)  # (N, K), (K,)
    shares = values / values.sum()
    entropy = torch.special.entr(shares).sum()
    slope = shares * entropy - torch.special.entr(shares)  # p (log p + H), 0 where p is
    influence = -0.5 * left.square() @ slope  # (N,)
    return np.asarray((entropy.exp() * (1 + len(embedding) * influence)).numpy(), dtype=np.float64)


def uniformity_values(units: Tensor) -> Floats:
    """Return the uniformity of `units` (N, P) plus each record's influence on it, (N,); a record is no pair with itself."""
    sums = [torch.exp(4 * (rows @ units.T - 1)).sum(dim=1) for rows in torch.split(units, CHUNK)]
    itself = torch.exp(4 * (units.square().sum(dim=1) - 1))
    near = (torch.cat(sums) - itself) / (len(units) - 1)  # (N,)
    mean = near.mean()
    return np.asarray((mean.log() + 2 * (near / mean - 1)).numpy(), dtype=np.float64)


def distances_within(units: Tensor, patients: NDArray[np.str_]) -> tuple[Floats, NDArray[np.bool_]]:
    """Return each record's mean squared distance to the other `units` (N, P) of its patient, 0 if there is none; and if so."""
    _, group, size = np.unique(patients, return_inverse=True, return_counts=True)
    where = torch.from_numpy(group)
    sums = units.new_zeros(len(size), units.shape[1]).index_add_(0, where, units)  # (patients, P)
    squares = units.square().sum(dim=1)
    all_squares = units.new_zeros(len(size)).index_add_(0, where, squares)
    count = torch.from_numpy(size)[where]
    total = count * squares + all_squares[where] - 2 * (units * sums[where]).sum(dim=1)  # of |x - y|^2 over the patient
    mean = (total / (count - 1).clamp_min(1)).clamp_min(0)
    return np.asarray(mean.where(count > 1, 0.0).numpy(), dtype=np.float64), size[group] > 1


@mb.hookimpl
def melp_evaluations() -> list[mb.Entry[mb.Evaluation]]:
    """Return representation."""
    return [
        mb.Entry(
            "representation",
            Representation,
            "effective rank, uniformity and alignment of embeddings; nothing is fitted",
            "https://arxiv.org/abs/2210.02885",
            "MIT",
        )
    ]
