"""Transfer: a probe fitted on one task, scored on another over the classes they share.

The probe is fitted (see `probe`) on all training labels of the source and chosen on the source's validation part: folds 1-8
and 9 of a holdout; where the source cross-validates, its first fold is validation and all others train. It is scored on the
target's test part, or on all target records where the target cross-validates, as nothing is fitted there; features are
standardised by the source alone. Classes are shared by name, or by a declared map: {source class: target class}, or, where
the target is finer, {source class: [target classes]}. A shared class is positive where any of its target classes is; its score
is the source logit of its class, the largest of them where several source classes map to one target class.

Shapes: S seeds, N scored records, C shared classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from melp_bench.errors import NotApplicable, UserError
from melp_bench.evaluations.linear_probe import fit_details
from melp_bench.evaluations.probe import Problem, fit
from melp_bench.evaluations.scoring import outcome
from melp_bench.evaluations.subject import Positions, Subject, TaskData, require_finite
from melp_bench.evaluations.subsets import label_subset
from melp_bench.protocol import Interval, Transfer
from melp_bench.registry import nearest
from melp_bench.results import Outcome

VERSION = 1

ClassMap = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class Shared:
    """A class that two tasks share, by the columns that stand for it in either."""

    name: str
    sources: list[int]
    targets: list[int]


def run(
    subject: Subject,
    source: TaskData,
    target: TaskData,
    *,
    class_map: ClassMap | None,
    options: Transfer,
    interval: Interval,
) -> Outcome:
    """Return the outcome on `target` of probes fitted on `source`, the mean over `options.seeds`.

    Raises:
        NotApplicable: no class is shared, a part is empty, or the target's records were fitted on.
        UserError: the class map names an unknown class, or features are not finite.
    """
    if source.published and source.published.misnamed:
        raise NotApplicable(f"columns of {source.name!r} changed places between its published files: no name fits both")
    shared = shared_classes(source, target, class_map)
    source, target = source.in_record_order(), target.in_record_order()
    require_finite(subject, source.embedding, "record embeddings")
    require_finite(subject, target.embedding, "record embeddings")
    train, validation = _source_parts(source)
    test = target.scored()
    _refuse_seen_patients(source, target, np.concatenate([train, validation]), test)
    problems = [
        Problem(0, seed, train, train[label_subset(source.record_ids[train], source.labels[train], 1.0, seed)], validation)
        for seed in options.seeds
    ]
    probes = fit(source.embedding, source.labels, problems, options)
    records = target.embedding[torch.from_numpy(test).to(target.embedding.device)]
    logits = np.stack([probe.logits(records) for probe in probes])  # (S, N, source classes)
    scores = np.stack([logits[..., one.sources].max(axis=-1) for one in shared], axis=-1)  # (S, N, C)
    labels = np.stack([target.labels[test][:, one.targets].any(axis=-1) for one in shared], axis=-1)  # (N, C)
    details = {
        **fit_details(source, 1.0, options.seeds, problems, probes),
        "class_map": {one.name: [source.classes[c] for c in one.sources] for one in shared},
        "target_classes": {one.name: [target.classes[c] for c in one.targets] for one in shared if len(one.targets) > 1},
        "classes_not_shared": [name for c, name in enumerate(target.classes) if all(c not in one.targets for one in shared)],
    }
    return outcome(scores, labels, target.patients[test], [one.name for one in shared], interval, details)


def shared_classes(source: TaskData, target: TaskData, class_map: ClassMap | None) -> list[Shared]:
    """Return the shared classes, in the target's order; a class of several target classes has the name of its source class.

    Raises:
        NotApplicable: no class is shared.
        UserError: the class map names a class that its task does not have, or gives one name two meanings.
    """
    if class_map is None:
        class_map = {name: name for name in source.classes if name in target.classes}
    found: dict[str, Shared] = {}
    for origin, aim in class_map.items():
        name, aims = (aim, [aim]) if isinstance(aim, str) else (origin, list(aim))
        where = f"class map {source.name}->{target.name}"
        targets = sorted(_column(target, one, where) for one in aims)
        if not targets:
            raise UserError(f"{where}: {origin!r} maps to no class; name the classes of {target.name!r} it stands for")
        shared = found.setdefault(name, Shared(name, [], targets))
        if shared.targets != targets:
            raise UserError(f"{where}: {name!r} stands for two different sets of classes; give every shared class one meaning")
        shared.sources.append(_column(source, origin, where))
    if not found:
        raise NotApplicable(f"{source.name!r} and {target.name!r} share no class; declare a class_map in the protocol")
    return sorted(found.values(), key=lambda one: one.targets)


def _column(task: TaskData, name: str, where: str) -> int:
    """Return the column of the class `name`.

    Raises:
        UserError: the task has no such class.
    """
    if name not in task.classes:
        raise UserError(
            f"{where}: {task.name!r} has no class {name!r}{nearest(name, task.classes)} It has: {', '.join(task.classes)}"
        )
    return task.classes.index(name)


def _source_parts(source: TaskData) -> tuple[Positions, Positions]:
    """Return the source's training and validation positions."""
    if source.split == "holdout":
        train, validation, _ = source.parts()[0]
    else:
        first = source.folds == source.folds.min(initial=10)
        train, validation = np.flatnonzero(~first), np.flatnonzero(first)
    if len(train) == 0 or len(validation) == 0:
        raise NotApplicable(f"{source.name!r} has {len(train)} training and {len(validation)} validation records")
    return train, validation


def _refuse_seen_patients(source: TaskData, target: TaskData, fitted: Positions, test: Positions) -> None:
    """Refuse to score patients of the same dataset, under any alias or view, that the probe was fitted or chosen on."""
    of_source, of_target = (task.dataset or task.name.partition("/")[0] for task in (source, target))
    if of_source != of_target:
        return
    seen = set(source.patients[fitted].tolist()) & set(target.patients[test].tolist())
    if seen:
        raise NotApplicable(f"{len(seen)} patients of {target.name!r} would be scored after {source.name!r} was fitted on them")
