"""Probes of a task: which are fitted, on which labels, and what a row says of them.

Shapes: S seeds, N records, n records asked for, C classes, P embedding channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from melp_bench.errors import NotApplicable, UserError
from melp_bench.evaluations import TaskRecords
from melp_bench.splits import Positions
from melp_plugins.evaluations.pooling import Scorer, require_parts
from melp_plugins.evaluations.probe import Probe, ProbeProblem
from melp_plugins.evaluations.subsets import SubsetRule, label_subset, published_subset


def require_seeds(seeds: Sequence[int], name: str) -> tuple[int, ...]:
    """Return the seeds, each once.

    Raises:
        UserError: there is none.
    """
    if not seeds:
        raise UserError(f"evaluation {name!r} has no seeds; give at least one, as seeds = [0, 1, 2]")
    return tuple(dict.fromkeys(seeds))


def problems_of(task: TaskRecords, fraction: float, seeds: Sequence[int], rule: SubsetRule = "nested") -> list[ProbeProblem]:
    """Return the probes to fit, every seed of every part of the split.

    Raises:
        NotApplicable: a part of the split has no training, validation or test record, or the subset has none.
    """
    require_parts(task)
    return [
        ProbeProblem(number, seed, part.train, part.train[_labelled(task, part.train, fraction, seed, rule)], part.validation)
        for number, part in enumerate(task.parts)
        for seed in seeds
    ]


def _labelled(task: TaskRecords, train: Positions, fraction: float, seed: int, rule: SubsetRule) -> Positions:
    """Return which of the training positions `train` a probe sees the labels of, as positions in `train`.

    A published rule draws from the rows of the training file; without one, from the training records by record id.
    """
    if rule == "nested":
        return label_subset(task.record_ids[train], task.labels[train], fraction, seed)
    if task.published is None:
        drawn = published_subset(len(train), fraction, rule)
    else:
        place = np.full(task.published.train_rows, -1, dtype=np.int64)
        place[task.published.rows[train]] = np.arange(len(train))
        drawn = place[published_subset(task.published.train_rows, fraction, rule)]
    if not (drawn >= 0).any():
        raise NotApplicable(f"{100 * fraction:g} % by rule {rule!r} are {len(drawn)} rows, none of them among the records")
    return drawn[drawn >= 0]


def scorer(problems: Sequence[ProbeProblem], probes: Sequence[Probe], embedding: Tensor) -> Scorer:
    """Return the function from a part and positions to the logits, (S, n, C), of that part's probes on `embedding` (N, P)."""

    def score(part: int, positions: Positions) -> NDArray[np.float32]:
        mine = [probe for problem, probe in zip(problems, probes, strict=True) if problem.part == part]
        return np.stack([probe.logits(embedding[positions]) for probe in mine])

    return score


def fit_details(
    task: TaskRecords, fraction: float, seeds: Sequence[int], problems: Sequence[ProbeProblem], probes: Sequence[Probe]
) -> dict[str, Any]:
    """Return what a reader may want to know of the fits: sizes, unseen classes, chosen epochs."""
    positives = np.stack([task.labels[problem.labelled].sum(axis=0) for problem in problems])  # (problems, C)
    unseen = [name for name, fewest in zip(task.classes, positives.min(axis=0), strict=True) if fewest == 0]
    misnamed = {"misnamed_columns": list(task.published.misnamed)} if task.published and task.published.misnamed else {}
    return misnamed | {
        "fraction": fraction,
        "seeds": list(seeds),
        "training_labels": sorted({len(problem.labelled) for problem in problems}),
        "training_records": sorted({len(problem.train) for problem in problems}),
        "chosen_epochs": [probe.epoch for probe in probes],  # part by part, seed by seed
        "validation": [round(probe.quality, 6) for probe in probes],
        "classes_without_training_positive": unseen,
    }
