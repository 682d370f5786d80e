"""Calibration: whether a record that a linear probe says has a class with 70 % has it seven times in ten.

The probe is a logistic regression on frozen embeddings and all training labels (see `logistic_regression`); its probabilities
are scored as they are, and after a correction that is fitted on validation (Guo et al. 2017, arXiv:1706.04599):

- `none`: the sigmoid of the logit.
- `temperature`: the sigmoid of the logit over one temperature of all classes, by the least cross-entropy on validation.
- `platt`: a slope and an offset of each class (Platt 1999); a class without both answers in validation stays as it is.

Each part of a cross-validation is corrected by its own validation records. The metrics are taken of each class on its own, as
multi-label probabilities are. The details hold the curve of reliability: over all classes and seeds, for equal bins of
probability, how many answers lie in it, their mean probability, and how often it was true.

Shapes: S seeds, N records, V validation records, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

import melp_bench as mb
from melp_bench.metrics.calibration import platt, sigmoid
from melp_bench.splits import Positions
from melp_plugins.evaluations.logistic_regression import LogisticFitting, fit_regressions
from melp_plugins.evaluations.pooling import Scorer, pooled
from melp_plugins.evaluations.probing import problems_of, scorer

Correction = Literal["none", "temperature", "platt"]
Floats = NDArray[np.float64]
HOTTEST = 100.0  # the largest temperature, and one over the smallest


class Calibration(mb.Evaluation):
    """One row per task and correction."""

    version = 1
    label = "calibration"
    metrics = ("ece", "brier")

    def __init__(
        self,
        *,
        corrections: tuple[Correction, ...] = ("none", "temperature", "platt"),
        bins: int = 15,
        strengths: tuple[float, ...] = LogisticFitting.strengths,
    ) -> None:
        """Check the options; `bins` are those of the curve, not of a metric.

        Raises:
            UserError: a correction is unknown, there is no bin, or a strength is not positive.
        """
        for correction in corrections:
            if correction not in get_args(Correction):
                known = ", ".join(get_args(Correction))
                raise mb.UserError(f"evaluation 'calibration' has the correction {correction!r}; wanted {known}")
        if bins < 1 or not strengths or min(strengths) <= 0:
            raise mb.UserError(
                f"evaluation 'calibration' has bins = {bins} and strengths = {list(strengths)}; wanted positive numbers"
            )
        self.corrections, self.bins, self.regression = corrections, bins, LogisticFitting(strengths)

    def expand(self, tasks: Sequence[str]) -> Iterable[mb.Measurement]:
        """Return a row per task and correction."""
        for task in tasks:
            for correction in self.corrections:
                options = {**asdict(self.regression), "correction": correction, "bins": self.bins}
                yield mb.Measurement(task, (task,), "" if correction == "none" else correction, options)

    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        """Return the probabilities (1, N, C).

        Raises:
            NotApplicable: a part of the split is empty.
        """
        task, correction = context.task(measurement.task), measurement.options["correction"]
        problems = problems_of(task, 1.0, (0,))
        embedding = context.features(task).embedding
        probes = fit_regressions(embedding, task.labels, problems, self.regression)
        score = partial(corrected, scorer(problems, probes, embedding), task, correction)
        made = pooled(task, score, kind="probability", scales_differ=False, details={})
        details: dict[str, Any] = {"correction": correction, "reliability": reliability(made.scores, made.labels, self.bins)}
        if correction == "temperature":
            details["temperatures"] = [
                temperature(scorer(problems, probes, embedding)(number, part.validation), task.labels[part.validation])
                for number, part in enumerate(task.parts)
            ]
        details["strengths"] = [self.regression.strengths[probe.epoch - 1] for probe in probes]
        return mb.Predictions(**{**vars(made), "details": details})


def corrected(logits: Scorer, task: mb.TaskRecords, correction: Correction, part: int, positions: Positions) -> Floats:
    """Return the probabilities (S, n, C) of records, corrected by the validation records of their part."""
    asked = logits(part, positions)
    if correction == "none":
        return sigmoid(asked)
    where = task.parts[part].validation
    beside, labels = logits(part, where), task.labels[where]
    if correction == "temperature":
        return sigmoid(asked.astype(np.float64) / temperature(beside, labels))
    fitted = platt(asked, beside, labels)
    return np.where(np.isnan(fitted), sigmoid(asked), fitted)


def temperature(logits: NDArray[np.floating[Any]], labels: NDArray[Any]) -> float:
    """Return the temperature of least cross-entropy of `logits` (S, V, C) with `labels` (V, C), from 1/100 to 100."""
    from scipy.optimize import minimize_scalar  # half a second to import

    given, sign = logits.astype(np.float64), np.where(labels.astype(bool), -1.0, 1.0)

    def loss(power: float) -> float:
        return float(np.logaddexp(0.0, sign * given * np.exp(-power)).mean())

    most = np.log(HOTTEST)
    return float(np.exp(minimize_scalar(loss, bounds=(-most, most), method="bounded", options={"xatol": 1e-6}).x))


def reliability(probabilities: NDArray[np.floating[Any]], labels: NDArray[Any], bins: int) -> list[dict[str, float]]:
    """Return the bins that hold an answer of `probabilities` (S, N, C): count, mean probability and frequency in each."""
    given = probabilities.astype(np.float64).ravel()
    truth = np.broadcast_to(labels, probabilities.shape).astype(np.float64).ravel()
    places = np.minimum((given * bins).astype(np.int64), bins - 1)
    count, said, true = (np.bincount(places, weights, minlength=bins) for weights in (None, given, truth))
    return [
        {"from": b / bins, "to": (b + 1) / bins, "count": int(count[b]), "said": said[b] / count[b], "true": true[b] / count[b]}
        for b in np.flatnonzero(count).tolist()
    ]


@mb.hookimpl
def melp_evaluations() -> list[mb.Entry[mb.Evaluation]]:
    """Return calibration."""
    return [
        mb.Entry(
            "calibration",
            Calibration,
            "whether a linear probe's probabilities come true, as they are and corrected on validation",
            "https://arxiv.org/abs/1706.04599",
            "MIT",
        )
    ]
