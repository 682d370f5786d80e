"""Linear probe: one linear layer on frozen features, fitted on a fraction of the training labels.

How a probe is fitted and chosen is told in `probe`, which labels it sees in `subsets`. The validation part keeps all its
labels at every fraction, as in the published benchmarks. The test part is touched once, with the probe that was chosen.

- Holdout: the score is the logit.
- Cross-validation: every record is scored once, by the probe of the part in which it is test, and all are pooled and
  measured once. Probes of different parts stop at different epochs, so their logits have different scales; each is put on
  that of its own training part first: (logit - mean) / deviation per class over the part's training records, whose labels
  play no role here. Within a part this changes no order.

All seeds (and parts) of a cell are fitted as one batched problem.

Shapes: S seeds, N records, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from melp_bench.errors import NotApplicable
from melp_bench.evaluations.probe import Probe, Problem, fit
from melp_bench.evaluations.scoring import outcome
from melp_bench.evaluations.subject import Positions, Subject, TaskData, require_finite
from melp_bench.evaluations.subsets import label_subset, published_subset
from melp_bench.protocol import Interval, LinearProbe, SubsetRule
from melp_bench.results import Outcome

VERSION = 1


def run(subject: Subject, task: TaskData, *, fraction: float, options: LinearProbe, interval: Interval) -> Outcome:
    """Return the outcome of probes on `fraction` of the training labels, the mean over `options.seeds`.

    Raises:
        NotApplicable: a part of the split is empty, or nothing can be scored.
        UserError: features are not finite.
    """
    task = task.in_record_order()
    require_finite(subject, task.embedding, "record embeddings")
    problems = problems_of(task, fraction, options.seeds, options.subset)
    probes = fit(task.embedding, task.labels, problems, options)
    scored = task.scored()
    scores = _scores(task, problems, probes, options.seeds)[:, scored]  # (S, n, C)
    details = fit_details(task, fraction, options.seeds, problems, probes)
    if options.subset != "nested":
        details["subset"] = options.subset
    return outcome(scores, task.labels[scored], task.patients[scored], task.classes, interval, details)


def problems_of(task: TaskData, fraction: float, seeds: list[int], rule: SubsetRule = "nested") -> list[Problem]:
    """Return the probes to fit, every seed of every part of the split; `task` is in record order.

    Raises:
        NotApplicable: a part of the split has no training, validation or test record, or the subset has none.
    """
    problems = []
    for part, positions in enumerate(task.parts()):
        for name, where in zip(("training", "validation", "test"), positions, strict=True):
            if len(where) == 0:
                folds = sorted(set(task.folds.tolist()))
                raise NotApplicable(f"no {name} record: the {len(task.folds)} records of {task.name!r} are in folds {folds}")
        train, validation, _ = positions
        for seed in seeds:
            labelled = train[_labelled(task, train, fraction, seed, rule)]
            problems.append(Problem(part, seed, train, labelled, validation))
    return problems


def _labelled(task: TaskData, train: Positions, fraction: float, seed: int, rule: SubsetRule) -> Positions:
    """Return which of the training positions `train` a probe sees the labels of, as positions in `train`."""
    if rule == "nested":
        return label_subset(task.record_ids[train], task.labels[train], fraction, seed)
    if task.published is None:
        raise NotApplicable(f"subset {rule!r} is of the published label files, and {task.name!r} does not have their view")
    place = np.full(task.published.train_rows, -1, dtype=np.int64)
    place[task.published.rows[train]] = np.arange(len(train))
    drawn = place[published_subset(task.published.train_rows, fraction, rule)]
    if not (drawn >= 0).any():
        raise NotApplicable(f"{100 * fraction:g} % by rule {rule!r} are {len(drawn)} rows, none of them among the records")
    return drawn[drawn >= 0]


def _scores(task: TaskData, problems: list[Problem], probes: list[Probe], seeds: list[int]) -> NDArray[np.float64]:
    """Return the score of each record by the probes of the part in which it is test, shape (S, N, C); NaN where in none."""
    scores = np.full((len(seeds), *task.labels.shape), np.nan)
    parts = task.parts()
    for i, (problem, probe) in enumerate(zip(problems, probes, strict=True)):
        test = parts[problem.part][2]
        logits = probe.logits(task.embedding[test]).astype(np.float64)
        if task.split == "cross-validate":
            reference = probe.logits(task.embedding[problem.train]).astype(np.float64)
            deviation = reference.std(axis=0)
            logits = (logits - reference.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
        scores[i % len(seeds), test] = logits
    return scores


def fit_details(
    task: TaskData, fraction: float, seeds: list[int], problems: list[Problem], probes: list[Probe]
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
