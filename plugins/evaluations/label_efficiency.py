"""Label efficiency: how good a linear probe is on ever more training labels, as one curve and the area under it.

At each fraction logistic regressions on frozen embeddings are fitted to their minimum, the penalty chosen on validation (see
`logistic_regression`); which labels a seed sees is told in `subsets`, so that the smaller sets of a seed lie
in its larger ones.

A column of a row is a class at a fraction, "NORM at 1 %". So a row's score, the mean over its columns, is the mean height of
the curve: the area under it over the logarithm of the fraction where these are spaced as by default; each point of each class
has its own interval, and two models are compared over all fractions by the same resamples. The macro mean of each fraction
stands in the details.

Shapes: S seeds, N records, C classes, F fractions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np

import melp_bench as mb
from melp_bench.metrics import auroc
from melp_plugins.evaluations.logistic_regression import LogisticFitting, fit_regressions
from melp_plugins.evaluations.pooling import pooled
from melp_plugins.evaluations.probing import fit_details, problems_of, require_seeds, scorer


class LabelEfficiency(mb.Evaluation):
    """One row per task; its score is the mean over seeds, fractions and classes."""

    version = 1
    label = "label efficiency"
    metrics = ("auroc", "auprc")

    def __init__(
        self,
        *,
        fractions: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
        seeds: tuple[int, ...] = (0, 1, 2),
        strengths: tuple[float, ...] = LogisticFitting.strengths,
    ) -> None:
        """Check the options.

        Raises:
            UserError: fewer than two fractions, one is not in (0, 1] or not larger than the one before, a strength is not
                positive, or there is no seed.
        """
        rising = all(one < other for one, other in pairwise(fractions))
        if len(fractions) < 2 or not rising or fractions[0] <= 0 or fractions[-1] > 1:
            raise mb.UserError(
                f"evaluation 'label_efficiency' has fractions = {list(fractions)}; wanted two or more that rise, "
                "more than 0 and at most 1, as [0.01, 0.1, 1.0]"
            )
        if not strengths or min(strengths) <= 0:
            raise mb.UserError(f"evaluation 'label_efficiency' has the strengths {list(strengths)}; wanted positive numbers")
        self.fractions, self.seeds = fractions, require_seeds(seeds, "label_efficiency")
        self.regression = LogisticFitting(strengths)

    def expand(self, tasks: Sequence[str]) -> Iterable[mb.Measurement]:
        """Return a row per task."""
        options = {**asdict(self.regression), "seeds": list(self.seeds), "fractions": list(self.fractions)}
        setting = f"{100 * self.fractions[0]:g} to {100 * self.fractions[-1]:g} %"
        return [mb.Measurement(task, (task,), setting, options) for task in tasks]

    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        """Return the logits of probes (S, N, F C), those of the smallest fraction first.

        Raises:
            NotApplicable: a part of the split is empty.
        """
        task = context.task(measurement.task)
        points = [self._at(context, task, fraction) for fraction in self.fractions]
        first = points[0]
        beside = [point.validation for point in points if point.validation is not None]
        return mb.Predictions(
            scores=np.concatenate([point.scores for point in points], axis=2),
            labels=np.tile(first.labels, (1, len(points))),
            record_ids=first.record_ids,
            patients=first.patients,
            classes=tuple(f"{one} at {100 * fraction:g} %" for fraction in self.fractions for one in task.classes),
            kind=first.kind,
            validation=(np.concatenate([s for s, _ in beside], axis=2), np.tile(beside[0][1], (1, len(points)))),
            details={"seeds": list(self.seeds), "curve": [point.details for point in points]},
        )

    def _at(self, context: mb.Context, task: mb.TaskRecords, fraction: float) -> mb.Predictions:
        """Return the predictions at one fraction, and as details its point of the curve."""
        drawn = self.seeds if fraction < 1 else self.seeds[:1]  # all labels are one set, and a minimum has no chance in it
        problems = problems_of(task, fraction, drawn)
        embedding = context.features(task).embedding
        probes = fit_regressions(embedding, task.labels, problems, self.regression)
        repeats = len(self.seeds) // len(drawn)
        problems = [problem for problem in problems for _ in range(repeats)]
        probes = [probe for probe in probes for _ in range(repeats)]
        made = pooled(task, scorer(problems, probes, embedding), kind="logit", scales_differ=True, details={})
        fits = fit_details(task, fraction, self.seeds, problems, probes)
        heights = [_macro(one, made.labels) for one in made.scores]
        details: dict[str, Any] = {"fraction": fraction, "training_labels": fits["training_labels"]}
        details["strengths"] = [self.regression.strengths[number - 1] for number in fits["chosen_epochs"]]
        details["auroc_by_seed"] = heights
        return mb.Predictions(**{**vars(made), "details": details})


def _macro(scores: Any, labels: Any) -> float | None:
    """Return the macro AUROC over the classes that have both answers; None where none has."""
    area = auroc(scores, labels)
    return None if np.isnan(area).all() else float(np.nanmean(area))


@mb.hookimpl
def melp_evaluations() -> list[mb.Entry[mb.Evaluation]]:
    """Return label efficiency."""
    return [
        mb.Entry(
            "label_efficiency",
            LabelEfficiency,
            "linear probes on ever more training labels: a curve, and the area under it",
            "https://arxiv.org/abs/1905.09272",
            "MIT",
        )
    ]
