"""k nearest neighbours: a record has the classes of the training records whose embeddings point its way. Nothing is fitted.

The rule (Wu et al. 2018, Unsupervised Feature Learning via Non-Parametric Instance Discrimination, arXiv:1805.01978): of the k
training records of largest cosine, record i counts exp(cosine_i / temperature); a class's score is the share of that weight
that lies on records which carry it. Of neighbours at one distance the first by record id count.

Shapes: N training records, n records asked for, C classes, P embedding channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

import melp_bench as mb
from melp_bench.splits import Positions
from melp_plugins.evaluations.pooling import pooled, require_parts

CHUNK = 512


class NearestNeighbours(mb.Evaluation):
    """One row per task."""

    version = 1
    label = "k-NN"
    metrics = ("auroc", "auprc")

    def __init__(self, *, k: int = 20, temperature: float = 0.07) -> None:
        """Check the options.

        Raises:
            UserError: `k` or the temperature is not positive.
        """
        if k < 1 or temperature <= 0:
            raise mb.UserError(f"evaluation 'knn' has k = {k} and temperature = {temperature:g}; wanted both positive")
        self.k, self.temperature = k, temperature

    def expand(self, tasks: Sequence[str]) -> Iterable[mb.Measurement]:
        """Return a row per task."""
        options = {"k": self.k, "temperature": self.temperature}
        return [mb.Measurement(task, (task,), options=options) for task in tasks]

    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        """Return the shares of the neighbours' weight, which are probabilities.

        Raises:
            NotApplicable: a part of the split is empty.
        """
        task = context.task(measurement.task)
        require_parts(task)
        unit = F.normalize(context.features(task).embedding, dim=-1)
        labels = torch.from_numpy(task.labels).to(unit)

        def score(part: int, positions: Positions) -> NDArray[np.float32]:
            train = task.parts[part].train
            chunks = [
                neighbour_shares(unit[positions[i : i + CHUNK]], unit[train], labels[train], self.k, self.temperature)
                for i in range(0, len(positions), CHUNK)
            ]
            return np.asarray(torch.cat(chunks).numpy()[None], dtype=np.float32)

        details = {"k": self.k, "training_records": sorted({len(part.train) for part in task.parts})}
        return pooled(task, score, kind="probability", scales_differ=False, details=details)


def neighbour_shares(queries: Tensor, known: Tensor, labels: Tensor, k: int, temperature: float) -> Tensor:
    """Return the share of each class in the weight of the `k` nearest of `known` (N, P), shape (n, C), for `queries` (n, P).

    All are unit vectors; `labels` (N, C) are 0 or 1. With fewer than `k` known records, all of them are neighbours.
    """
    cosine = queries @ known.T  # (n, N)
    k = min(k, len(known))
    largest, nearest = cosine.topk(k, dim=-1)  # (n, k), a tenth of the time of sorting all
    (tied,) = torch.nonzero((cosine >= largest[:, -1:]).sum(dim=-1) > k, as_tuple=True)
    if len(tied):  # of equals, the first
        largest[tied], nearest[tied] = (part[:, :k] for part in cosine[tied].sort(dim=-1, descending=True, stable=True))
    weight = torch.softmax(largest / temperature, dim=-1)  # (n, k)
    return torch.einsum("nk,nkc->nc", weight, labels[nearest]).clamp(0, 1)


@mb.hookimpl
def melp_evaluations() -> list[mb.Entry[mb.Evaluation]]:
    """Return k nearest neighbours."""
    return [
        mb.Entry(
            "knn",
            NearestNeighbours,
            "weighted cosine k nearest neighbours on frozen embeddings; nothing is fitted",
            "https://arxiv.org/abs/1805.01978",
            "MIT",
        )
    ]
