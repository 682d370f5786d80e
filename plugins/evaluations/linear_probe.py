"""Linear probe: one linear layer on frozen features, fitted on a fraction of the training labels.

How a probe is fitted and chosen is told in `probe`, or with `solver="lbfgs"` in `logistic_regression`, which labels it sees
in `subsets`, how parts become one set of predictions in `pooling`. The validation part keeps all its labels at every fraction,
as in the published benchmarks. The test part is touched once, with the probe that was chosen. All seeds (and parts) of a row
are fitted as one batched problem.

Four options reproduce what publications did, to show what it moves (`melp_bench/defects.toml`):

- `subset`: one set of labels for all seeds, see `subsets`.
- `scoring = "softmax"`: what is scored is the softmax of a record's logits over the classes.
- `chosen_on = "test"`: all epochs are fitted, and the best on the test records themselves is reported.
- `batch_norm = "learning"`: see `batch_norm`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import melp_bench as mb
from melp_bench.splits import Positions
from melp_plugins.evaluations.batch_norm import embed_while_learning, num_batch_norms
from melp_plugins.evaluations.logistic_regression import LogisticFitting, fit_regressions
from melp_plugins.evaluations.pooling import Scorer, pooled
from melp_plugins.evaluations.probe import USUAL, Fitting, Probe, ProbeProblem, fit
from melp_plugins.evaluations.probing import fit_details, problems_of, require_seeds, scorer
from melp_plugins.evaluations.subsets import SubsetRule

Scoring = Literal["logits", "softmax"]
ChosenOn = Literal["validation", "test"]
BatchNorm = Literal["frozen", "learning"]
Solver = Literal["adamw", "lbfgs"]
"""How the layer is fitted: AdamW that stops early, as published, or L-BFGS to the minimum, the penalty chosen on validation."""
Fit = Callable[[Tensor, NDArray[np.bool_], Sequence[ProbeProblem]], list[Probe]]


class LinearProbe(mb.Evaluation):
    """One row per task and fraction of the training labels; its score is the mean over the seeds."""

    version = 2
    label = "linear probe"
    metrics = ("auroc", "auprc")

    def __init__(
        self,
        *,
        fractions: tuple[float, ...] = (0.01, 0.1, 1.0),
        seeds: tuple[int, ...] = (0, 1, 2),
        learning_rate: float = USUAL.learning_rate,
        final_learning_rate: float = USUAL.final_learning_rate,
        weight_decay: float = USUAL.weight_decay,
        batch_size: int = USUAL.batch_size,
        epochs: int = USUAL.epochs,
        patience: int = USUAL.patience,
        subset: SubsetRule = "nested",
        scoring: Scoring = "logits",
        chosen_on: ChosenOn = "validation",
        batch_norm: BatchNorm = "frozen",
        solver: Solver = "adamw",
        strengths: tuple[float, ...] = LogisticFitting.strengths,
    ) -> None:
        """Check the options; those of AdamW say nothing to "lbfgs", and `strengths` nothing to AdamW.

        Raises:
            UserError: a fraction is not in (0, 1], there is no seed, an option has a word that it does not know, or a strength
                is not positive.
        """
        for fraction in fractions:
            if not 0 < fraction <= 1:
                raise mb.UserError(f"evaluation 'linear_probe' has the fraction {fraction!r}; wanted more than 0 and at most 1")
        words: dict[str, tuple[str, Any]] = {"subset": (subset, SubsetRule), "scoring": (scoring, Scoring)}
        words |= {"chosen_on": (chosen_on, ChosenOn), "batch_norm": (batch_norm, BatchNorm), "solver": (solver, Solver)}
        for option, (word, known) in words.items():
            if word not in get_args(known):
                raise mb.UserError(f"evaluation 'linear_probe' has the {option} {word!r}; wanted {', '.join(get_args(known))}")
        if not strengths or min(strengths) <= 0:
            raise mb.UserError(f"evaluation 'linear_probe' has the strengths {list(strengths)}; wanted positive numbers")
        self.regression = None if solver == "adamw" else LogisticFitting(strengths)
        self.fractions, self.seeds, self.subset = fractions, require_seeds(seeds, "linear_probe"), subset
        self.scoring, self.chosen_on, self.batch_norm, self.solver = scoring, chosen_on, batch_norm, solver
        self.fitting = Fitting(learning_rate, final_learning_rate, weight_decay, batch_size, epochs, patience)

    def _as_published(self, fraction: float) -> dict[str, str]:
        """Return the options that are not as usual for a row, and what a reader is told of each; all labels are one set."""
        told: dict[str, str] = {"subset": self.subset} if self.subset != "nested" and fraction < 1 else {}
        told |= {"scoring": self.scoring} if self.scoring != "logits" else {}
        told |= {"chosen_on": f"chosen on {self.chosen_on}"} if self.chosen_on != "validation" else {}
        told |= {"batch_norm": "batch norm learns"} if self.batch_norm != "frozen" else {}
        return told | ({"solver": "L-BFGS"} if self.regression is not None else {})

    def expand(self, tasks: Sequence[str]) -> Iterable[mb.Measurement]:
        """Return a row per task and fraction."""
        fitted = asdict(self.fitting) if self.regression is None else asdict(self.regression)
        shared = {**fitted, "seeds": list(self.seeds), "subset": "nested"}
        for task in tasks:
            for fraction in self.fractions:
                told = self._as_published(fraction)
                setting = f"{100 * fraction:g} %" + (f" ({', '.join(told.values())})" if told else "")
                options = {**shared, **{option: getattr(self, option) for option in told}, "fraction": fraction}
                yield mb.Measurement(task, (task,), setting, options)

    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        """Return the logits of probes on a fraction of the training labels, or their softmax, one set per seed.

        Raises:
            NotApplicable: a part of the split is empty, the subset has no record, or batch normalisation cannot learn.
        """
        task, fraction = context.task(measurement.task), float(measurement.options["fraction"])
        as_published = self._as_published(fraction)
        problems = problems_of(task, fraction, self.seeds, self.subset if "subset" in as_published else "nested")
        if self.chosen_on == "test":
            problems = [replace(problem, validation=task.parts[problem.part].test) for problem in problems]
        details: dict[str, Any] = {name: getattr(self, name) for name in as_published}
        if self.batch_norm == "frozen":
            embedding = context.features(task).embedding
            probes = self._fit(embedding, task.labels, problems)
            score = scorer(problems, probes, embedding)
        else:
            probes, score = _fit_while_learning(context, task, problems, self._fit)
            details["batch_norms"] = num_batch_norms(context)
        details |= self._fit_details(task, fraction, problems, probes)
        if self.scoring == "softmax":
            return pooled(task, _softmax_of(score), kind="probability", scales_differ=True, details=details)
        return pooled(task, score, kind="logit", scales_differ=True, details=details)

    def fitted(self, context: mb.Context, measurement: mb.Measurement) -> mb.FittedProbe:
        """Return one probe that scores as the mean of all seeds' does, which is linear, too.

        Raises:
            NotApplicable: the task is not split by a holdout, a part of it is empty, the subset has no record, or a published
                practice is asked for that belongs to a row and to no probe.
        """
        task, fraction = context.task(measurement.task), float(measurement.options["fraction"])
        if kept_out := [name for name in self._as_published(fraction) if name != "subset"]:
            raise mb.NotApplicable(f"a probe is not kept with {' and '.join(kept_out)} as published; leave these options out")
        if len(task.parts) != 1:
            raise mb.NotApplicable("needs a holdout, whose training records give one probe")
        problems = problems_of(task, fraction, self.seeds, self.subset if fraction < 1 else "nested")
        probes = self._fit(context.features(task).embedding, task.labels, problems)
        return mb.FittedProbe(
            classes=task.classes,
            weight=torch.stack([probe.weight for probe in probes]).mean(dim=0),
            bias=torch.stack([probe.bias for probe in probes]).mean(dim=0),
            mean=probes[0].mean,
            scale=probes[0].scale,
            details=self._fit_details(task, fraction, problems, probes),
        )

    def _fit(self, features: Tensor, labels: NDArray[np.bool_], problems: Sequence[ProbeProblem]) -> list[Probe]:
        """Return a probe per problem; where the test part chooses, no early stop keeps it from all epochs."""
        if self.regression is not None:
            return fit_regressions(features, labels, problems, self.regression)
        patience = self.fitting.patience if self.chosen_on == "validation" else self.fitting.epochs
        return fit(features, labels, problems, replace(self.fitting, patience=patience))

    def _fit_details(
        self, task: mb.TaskRecords, fraction: float, problems: Sequence[ProbeProblem], probes: Sequence[Probe]
    ) -> dict[str, Any]:
        """Return how the probes were fitted, with the strengths that were chosen in the place of epochs."""
        details = fit_details(task, fraction, self.seeds, problems, probes)
        if self.regression is not None:
            details["strengths"] = [self.regression.strengths[number - 1] for number in details.pop("chosen_epochs")]
        return details


def _fit_while_learning(
    context: mb.Context, task: mb.TaskRecords, problems: Sequence[ProbeProblem], fit_all: Fit
) -> tuple[list[Probe], Scorer]:
    """Return the probes of `problems`, and their scorer, on embeddings of each part's own batch normalisation."""
    probes: list[Probe] = []
    scorers: list[Scorer] = []
    for number, part in enumerate(task.parts):
        embedding, mine = embed_while_learning(context, task, part, number), [p for p in problems if p.part == number]
        fitted = fit_all(embedding, task.labels, mine)
        probes += fitted
        scorers.append(scorer(mine, fitted, embedding))
    return probes, lambda part, positions: scorers[part](part, positions)


def _softmax_of(score: Scorer) -> Scorer:
    """Return the function to the softmax over the classes of what `score` returns, (S, n, C)."""

    def softmax(part: int, positions: Positions) -> NDArray[np.float64]:
        logits = score(part, positions).astype(np.float64)
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        shares: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
        return shares

    return softmax


@mb.hookimpl
def melp_evaluations() -> list[mb.Entry[mb.Evaluation]]:
    """Return the linear probe."""
    return [
        mb.Entry(
            "linear_probe",
            LinearProbe,
            "one linear layer on frozen embeddings, on fractions of the training labels",
            "https://arxiv.org/abs/1610.01644",
            "MIT",
        )
    ]
