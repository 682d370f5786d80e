"""Transfer: a probe fitted on one task, scored on another over the classes they share.

The probe is fitted (see `probe`) on all training labels of the source and chosen on the source's validation part: its own of
a holdout; where the source cross-validates, its first fold is validation and all others train. It is scored on the
target's test part, or on all target records where the target cross-validates, as nothing is fitted there; features are
standardised by the source alone. Classes are shared as `shared_classes` says; the score of one is the source logit of its
class, the largest of them where several source classes map to one target class.

Shapes: S seeds, N scored records, C shared classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

import numpy as np

import melp_bench as mb
from melp_bench.splits import Positions
from melp_plugins.evaluations.probe import USUAL, Fitting, ProbeProblem, fit
from melp_plugins.evaluations.probing import fit_details, require_seeds, scorer
from melp_plugins.evaluations.shared_classes import ClassMap, PairedClasses, any_of, largest
from melp_plugins.evaluations.subsets import label_subset


class Transfer(mb.Evaluation):
    """One row per pair of tasks, given as "a/x->b/y"; its score is the mean over the seeds.

    `class_map` is the name of a map, or "a/x->b/y" -> {class of x: class or classes of y}; classes are shared by name where a
    pair has no map.
    """

    version = 2
    label = "transfer"
    metrics = ("auroc", "auprc")

    def __init__(
        self,
        *,
        class_map: str | Mapping[str, ClassMap] | None = None,
        seeds: tuple[int, ...] = (0, 1, 2),
        learning_rate: float = USUAL.learning_rate,
        final_learning_rate: float = USUAL.final_learning_rate,
        weight_decay: float = USUAL.weight_decay,
        batch_size: int = USUAL.batch_size,
        epochs: int = USUAL.epochs,
        patience: int = USUAL.patience,
    ) -> None:
        """Check the options.

        Raises:
            UserError: there is no seed, or no map of that name.
        """
        self.classes, self.seeds = PairedClasses(class_map, "transfer"), require_seeds(seeds, "transfer")
        self.fitting = Fitting(learning_rate, final_learning_rate, weight_decay, batch_size, epochs, patience)

    def expand(self, tasks: Sequence[str]) -> Iterable[mb.Measurement]:
        """Return a row per pair.

        Raises:
            UserError: a task is no pair, or a class map is of a pair that is not asked for.
        """
        for pair, source, target in self.classes.pairs(tasks):
            options = {**asdict(self.fitting), "seeds": list(self.seeds), "class_map": self.classes.key(pair)}
            yield mb.Measurement(pair, (source, target), self.classes.setting, options)

    def run(self, context: mb.Context, measurement: mb.Measurement) -> mb.Predictions:
        """Return the logits on the target of probes fitted on the source, one set per seed.

        Raises:
            NotApplicable: no class is shared, a part is empty, or the target's records were fitted on.
            UserError: the class map names an unknown class.
        """
        source, target = (context.task(name) for name in measurement.tasks)
        if source.published and source.published.misnamed:
            raise mb.NotApplicable(f"columns of {source.name!r} changed places between its published files: no name fits both")
        shared = self.classes.shared(measurement.task, source, target)
        train, validation = _source_parts(source)
        test = target.scored
        _refuse_seen_patients(source, target, np.concatenate([train, validation]), test)
        ids, labels = source.record_ids[train], source.labels[train]
        problems = [ProbeProblem(0, s, train, train[label_subset(ids, labels, 1.0, s)], validation) for s in self.seeds]
        embedding = context.features(source).embedding
        probes = fit(embedding, source.labels, problems, self.fitting)
        moved = scorer(problems, probes, context.features(target).embedding)(0, test)  # (S, N, source classes)
        at_home = scorer(problems, probes, embedding)(0, validation)
        return mb.Predictions(
            scores=largest(moved, [one.sources for one in shared]),
            labels=any_of(target.labels[test], [one.targets for one in shared]),
            record_ids=target.record_ids[test],
            patients=target.patients[test],
            classes=tuple(one.name for one in shared),
            kind="logit",
            validation=(
                largest(at_home, [one.sources for one in shared]),
                any_of(source.labels[validation], [one.sources for one in shared]),
            ),
            details={
                **fit_details(source, 1.0, self.seeds, problems, probes),
                "class_map": {one.name: [source.classes[c] for c in one.sources] for one in shared},
                "target_classes": {
                    one.name: [target.classes[c] for c in one.targets] for one in shared if len(one.targets) > 1
                },
                "classes_not_shared": [
                    name for c, name in enumerate(target.classes) if all(c not in one.targets for one in shared)
                ],
            },
        )


def _source_parts(source: mb.TaskRecords) -> tuple[Positions, Positions]:
    """Return the source's training and validation positions."""
    first = source.parts[0]
    train, validation = first.train, first.validation
    if len(source.parts) > 1:  # a cross-validation: its first fold chooses, all others train
        train, validation = np.setdiff1d(np.arange(len(source)), first.test), first.test
    if len(train) == 0 or len(validation) == 0:
        raise mb.NotApplicable(f"{source.name!r} has {len(train)} training and {len(validation)} validation records")
    return train, validation


def _refuse_seen_patients(source: mb.TaskRecords, target: mb.TaskRecords, fitted: Positions, test: Positions) -> None:
    """Refuse to score patients of the same dataset, under any alias or split, that the probe was fitted or chosen on."""
    if source.dataset != target.dataset:
        return
    seen = set(source.patients[fitted].tolist()) & set(target.patients[test].tolist())
    if seen:
        raise mb.NotApplicable(
            f"{len(seen)} patients of {target.name!r} would be scored after {source.name!r} was fitted on them"
        )


@mb.hookimpl
def melp_evaluations() -> list[mb.Entry[mb.Evaluation]]:
    """Return transfer."""
    return [
        mb.Entry(
            "transfer",
            Transfer,
            "a linear probe fitted on one task, scored on another over the classes they share",
            "https://arxiv.org/abs/1610.01644",
            "MIT",
        )
    ]
