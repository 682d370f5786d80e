"""Linear probe: one linear layer on frozen features, fitted on a fraction of the training labels.

How a probe is fitted and chosen is told in `probe`, which labels it sees in `subsets`, how parts become one set of predictions
in `pooling`. The validation part keeps all its labels at every fraction, as in the published benchmarks. The test part is
touched once, with the probe that was chosen. All seeds (and parts) of a row are fitted as one batched problem.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import get_args

import torch

import melp_bench as mb
from melp_plugins.evaluations.pooling import pooled
from melp_plugins.evaluations.probe import USUAL, Fitting, fit
from melp_plugins.evaluations.probing import fit_details, problems_of, require_seeds, scorer
from melp_plugins.evaluations.subsets import SubsetRule


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
    ) -> None:
        """Check the options.

        Raises:
            UserError: a fraction is not in (0, 1], there is no seed, or the subset's rule is unknown.
        """
        for fraction in fractions:
            if not 0 < fraction <= 1:
                raise mb.UserError(f"evaluation 'linear_probe' has the fraction {fraction!r}; wanted more than 0 and at most 1")
        if subset not in get_args(SubsetRule):
            raise mb.UserError(f"evaluation 'linear_probe' has the subset {subset!r}; wanted {', '.join(get_args(SubsetRule))}")
        self.fractions, self.seeds, self.subset = fractions, require_seeds(seeds, "linear_probe"), subset
        self.fitting = Fitting(learning_rate, final_learning_rate, weight_decay, batch_size, epochs, patience)

    def expand(self, tasks: Sequence[str]) -> Iterable[mb.Measurement]:
        """Return a row per task and fraction."""
        shared = {**asdict(self.fitting), "seeds": list(self.seeds), "subset": self.subset}
        rule = "" if self.subset == "nested" else f" ({self.subset})"
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
        probes = fit(embedding, task.labels, problems, self.fitting)
        details = fit_details(task, fraction, self.seeds, problems, probes)
        if self.subset != "nested":
            details["subset"] = self.subset
        return pooled(task, scorer(problems, probes, embedding), kind="logit", scales_differ=True, details=details)

    def fitted(self, context: mb.Context, measurement: mb.Measurement) -> mb.FittedProbe:
        """Return one probe that scores as the mean of all seeds' does, which is linear, too.

        Raises:
            NotApplicable: the task is not split by a holdout, a part of it is empty, or the subset has no record.
        """
        task, fraction = context.task(measurement.task), float(measurement.options["fraction"])
        if len(task.parts) != 1:
            raise mb.NotApplicable("needs a holdout, whose training records give one probe")
        problems = problems_of(task, fraction, self.seeds, self.subset)
        probes = fit(context.features(task).embedding, task.labels, problems, self.fitting)
        return mb.FittedProbe(
            classes=task.classes,
            weight=torch.stack([probe.weight for probe in probes]).mean(dim=0),
            bias=torch.stack([probe.bias for probe in probes]).mean(dim=0),
            mean=probes[0].mean,
            scale=probes[0].scale,
            details=fit_details(task, fraction, self.seeds, problems, probes),
        )


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
