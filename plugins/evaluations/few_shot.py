"""Few-shot: a linear probe that sees the labels of k positive records of each class.

Training records are ordered by the SHA-256 of "seed:record id", as for fractions of the labels (see `subsets`); of each class
the first k positives in that order are labelled, or all where there are fewer. So the sets of one seed are nested in k. How the
probe is fitted and chosen is told in `probe`; the validation part keeps all its labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

import melp_bench as mb
from melp_plugins.evaluations.pooling import pooled, require_parts
from melp_plugins.evaluations.probe import USUAL, Fitting, ProbeProblem, fit
from melp_plugins.evaluations.probing import require_seeds, scorer
from melp_plugins.evaluations.subsets import hashed_order


class FewShot(mb.Evaluation):
    """One row per task and k; its score is the mean over the seeds."""

    version = 1
    label = "few-shot"
    metrics = ("auroc", "auprc")

    def __init__(self, *, k: tuple[int, ...] = (1, 5, 10, 50), seeds: tuple[int, ...] = (0, 1, 2), patience: int = 20) -> None:
        """Check the options.

        Raises:
            UserError: a k is not positive, or there is no seed.
        """
        if not k or min(k) < 1:
            raise mb.UserError(f"evaluation 'few_shot' has k = {list(k)}; wanted numbers of at least 1, as [1, 5, 10, 50]")
        self.k, self.seeds = k, require_seeds(seeds, "few_shot")
        self.fitting = Fitting(**{**asdict(USUAL), "patience": patience})

    def expand(self, tasks: Sequence[str]) -> Iterable[mb.Measurement]:
        """Return a row per task and k."""
        shared: dict[str, Any] = {**asdict(self.fitting), "seeds": list(self.seeds)}
        return [mb.Measurement(task, (task,), f"{k} per class", {**shared, "k": k}) for task in tasks for k in self.k]

    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        """Return the logits of probes, one set per seed.

        Raises:
            NotApplicable: a part of the split is empty, or its training part has no positive of any class.
        """
        task, k = context.task(measurement.task), int(measurement.options["k"])
        require_parts(task)
        problems = []
        for number, part in enumerate(task.parts):
            for seed in self.seeds:
                chosen = k_of_each(task.record_ids[part.train], task.labels[part.train], k, seed)
                if len(chosen) == 0:
                    raise mb.NotApplicable(f"no training record of {task.name!r} has a class")
                problems.append(ProbeProblem(number, seed, part.train, part.train[chosen], part.validation))
        embedding = context.features(task).embedding
        probes = fit(embedding, task.labels, problems, self.fitting)
        details = {
            "k": k,
            "seeds": list(self.seeds),
            "training_labels": sorted({len(problem.labelled) for problem in problems}),
            "chosen_epochs": [probe.epoch for probe in probes],
        }
        return pooled(task, scorer(problems, probes, embedding), kind="logit", scales_differ=True, details=details)


def k_of_each(record_ids: NDArray[np.str_], labels: NDArray[Any], k: int, seed: int) -> NDArray[np.int64]:
    """Return the positions of the first `k` positives of each class among `record_ids` (N,), in the order of their hashes."""
    order = hashed_order(record_ids, seed)
    positive = labels[order].astype(bool)  # (N, C)
    chosen = (positive & (np.cumsum(positive, axis=0) <= k)).any(axis=1)
    found: NDArray[np.int64] = order[chosen]
    return found


@mb.hookimpl
def melp_evaluations() -> list[mb.Entry[mb.Evaluation]]:
    """Return few-shot classification."""
    return [
        mb.Entry(
            "few_shot",
            FewShot,
            "a linear probe on k positive records of each class",
            "https://arxiv.org/abs/2103.00020",
            "MIT",
        )
    ]
