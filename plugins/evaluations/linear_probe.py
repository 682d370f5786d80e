"""Linear probe: one linear layer on frozen features, fitted on a fraction of the training labels.

How a probe is fitted and chosen is told in `probe`, or with `solver="lbfgs"` in `logistic_regression`, which labels it sees
in `subsets`, how parts become one set of predictions in `pooling`. The validation part keeps all its labels at every fraction,
as in the published benchmarks. The test part is touched once, with the probe that was chosen. All seeds (and parts) of a row
are fitted as one batched problem.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Literal, get_args

import melp_bench as mb
from melp_plugins.evaluations.logistic_regression import LogisticFitting, fit_regressions
from melp_plugins.evaluations.pooling import pooled
from melp_plugins.evaluations.probe import USUAL, Fitting, fit
from melp_plugins.evaluations.probing import fit_details, problems_of, require_seeds, scorer
from melp_plugins.evaluations.subsets import SubsetRule

Solver = Literal["adamw", "lbfgs"]
"""How the layer is fitted: AdamW that stops early, as published, or L-BFGS to the minimum, the penalty chosen on validation."""


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
        solver: Solver = "adamw",
        strengths: tuple[float, ...] = LogisticFitting.strengths,
    ) -> None:
        """Check the options; those of AdamW say nothing to "lbfgs", and `strengths` nothing to AdamW.

        Raises:
            UserError: a fraction is not in (0, 1], there is no seed, the subset's rule or the solver is unknown, or a strength
                is not positive.
        """
        for fraction in fractions:
            if not 0 < fraction <= 1:
                raise mb.UserError(f"evaluation 'linear_probe' has the fraction {fraction!r}; wanted more than 0 and at most 1")
        if subset not in get_args(SubsetRule):
            raise mb.UserError(f"evaluation 'linear_probe' has the subset {subset!r}; wanted {', '.join(get_args(SubsetRule))}")
        if solver not in get_args(Solver) or not strengths or min(strengths) <= 0:
            raise mb.UserError(
                f"evaluation 'linear_probe' has the solver {solver!r} and strengths {list(strengths)}; wanted "
                f"{' or '.join(get_args(Solver))}, and positive numbers"
            )
        self.regression = None if solver == "adamw" else LogisticFitting(strengths)
        self.fractions, self.seeds, self.subset = fractions, require_seeds(seeds, "linear_probe"), subset
        self.fitting = Fitting(learning_rate, final_learning_rate, weight_decay, batch_size, epochs, patience)

    def expand(self, tasks: Sequence[str]) -> Iterable[mb.Measurement]:
        """Return a row per task and fraction."""
        fitted = asdict(self.fitting) if self.regression is None else {"solver": "lbfgs", **asdict(self.regression)}
        shared = {**fitted, "seeds": list(self.seeds), "subset": self.subset}
        told: list[str] = [] if self.subset == "nested" else [self.subset]
        told += [] if self.regression is None else ["L-BFGS"]
        rule = f" ({', '.join(told)})" if told else ""
        for task in tasks:
            for fraction in self.fractions:
                yield mb.Measurement(task, (task,), f"{100 * fraction:g} %{rule}", {**shared, "fraction": fraction})

    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        """Return the logits of probes on a fraction of the training labels, one set per seed.

        Raises:
            NotApplicable: a part of the split is empty, or the subset has no record.
        """
        task, fraction = context.task(measurement.task), float(measurement.options["fraction"])
        problems = problems_of(task, fraction, self.seeds, self.subset)
        embedding = context.features(task).embedding
        if self.regression is None:
            probes = fit(embedding, task.labels, problems, self.fitting)
        else:
            probes = fit_regressions(embedding, task.labels, problems, self.regression)
        details = fit_details(task, fraction, self.seeds, problems, probes)
        if self.regression is not None:
            details["strengths"] = [self.regression.strengths[number - 1] for number in details.pop("chosen_epochs")]
        if self.subset != "nested":
            details["subset"] = self.subset
        return pooled(task, scorer(problems, probes, embedding), kind="logit", scales_differ=True, details=details)


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
