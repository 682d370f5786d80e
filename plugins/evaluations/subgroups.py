"""Subgroups: one linear probe, scored on women and men and on bands of age apart, so that a mean hides nobody.

The probe is that of the linear probe at all training labels (see `probe`): fitted once per seed on everybody, never per group.
A group's row measures the scored records of that group alone; records of unknown sex or age are in none. Where a metric needs
a threshold, it is chosen on everybody's validation records, as a deployed one would be. The lowest row of a task is its worst
group; how far rows lie apart is read from their intervals.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

import melp_bench as mb
from melp_plugins.evaluations.pooling import pooled
from melp_plugins.evaluations.probe import USUAL, Fitting, fit
from melp_plugins.evaluations.probing import fit_details, problems_of, require_seeds, scorer

SEXES = {"F": "women", "M": "men"}


class Subgroups(mb.Evaluation):
    """One row per task and group; `ages` are the years at which a band ends and the next begins."""

    version = 1
    label = "subgroups"
    metrics = ("auroc", "auprc")

    def __init__(
        self,
        *,
        ages: tuple[int, ...] = (40, 60, 75),
        sexes: bool = True,
        seeds: tuple[int, ...] = (0, 1, 2),
        patience: int = 20,
    ) -> None:
        """Check the options.

        Raises:
            UserError: ages do not rise, there is no group, or no seed.
        """
        if list(ages) != sorted(set(ages)) or (ages and ages[0] <= 0) or not (ages or sexes):
            raise mb.UserError(f"evaluation 'subgroups' has ages = {list(ages)}; wanted rising years, as [40, 60, 75]")
        self.groups = [*(SEXES.values() if sexes else ()), *bands(ages)]
        self.ages, self.seeds = ages, require_seeds(seeds, "subgroups")
        self.fitting = Fitting(**{**asdict(USUAL), "patience": patience})

    def expand(self, tasks: Sequence[str]) -> Iterable[mb.Measurement]:
        """Return a row per task and group."""
        shared: dict[str, Any] = {**asdict(self.fitting), "seeds": list(self.seeds)}
        return [mb.Measurement(task, (task,), group, {**shared, "group": group}) for task in tasks for group in self.groups]

    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        """Return the logits of one group's scored records.

        Raises:
            NotApplicable: a part of the split is empty, or no scored record is of the group.
        """
        task, group = context.task(measurement.task), str(measurement.options["group"])
        mine = members(task, group, self.ages)
        if not (count := int(mine[task.scored].sum())):
            raise mb.NotApplicable(f"no scored record of {task.name!r} is known to be of the group {group!r}")
        problems = problems_of(task, 1.0, self.seeds)
        embedding = context.features(task).embedding
        probes = fit(embedding, task.labels, problems, self.fitting)
        details = {**fit_details(task, 1.0, self.seeds, problems, probes), "group": group, "scored_records": count}
        found = pooled(task, scorer(problems, probes, embedding), kind="logit", scales_differ=True, details=details)
        kept = np.isin(found.record_ids, task.record_ids[mine])
        return replace(
            found,
            scores=found.scores[:, kept],
            labels=found.labels[kept],
            record_ids=found.record_ids[kept],
            patients=found.patients[kept],
        )


def bands(ages: Sequence[int]) -> list[str]:
    """Return the names of the bands of age that `ages` part: "below 40", "40 to 59", "60 and above"."""
    if not ages:
        return []
    between = [f"{low} to {high - 1}" for low, high in pairwise(ages)]
    return [f"below {ages[0]}", *between, f"{ages[-1]} and above"]


def members(task: mb.TaskRecords, group: str, ages: Sequence[int]) -> NDArray[np.bool_]:
    """Return which records (N,) belong to a group by its name."""
    sex = {name: code for code, name in SEXES.items()}
    if group in sex:
        return np.asarray(task.sexes == sex[group], dtype=np.bool_)
    band = bands(ages).index(group)
    known = np.isfinite(task.ages)
    mine: NDArray[np.bool_] = known & (np.searchsorted(ages, np.where(known, task.ages, 0.0), side="right") == band)
    return mine


@mb.hookimpl
def melp_evaluations() -> list[mb.Entry[mb.Evaluation]]:
    """Return subgroups."""
    return [
        mb.Entry(
            "subgroups",
            Subgroups,
            "the linear probe scored by sex and by age",
            "https://doi.org/10.1038/s41591-021-01595-0",
            "MIT",
        )
    ]
