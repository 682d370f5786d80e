"""How far each published defect moves a model's scores: the rows with it against the rows without, on the same records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from melp_bench.board.score_moves import Move, MovesPage
from melp_bench.defects import defects
from melp_bench.errors import UserError
from melp_bench.measure import unpack
from melp_bench.metrics.paired import Difference, difference_of
from melp_bench.plugins import Catalogue
from melp_bench.progress import Listener, Silence
from melp_bench.protocol import EvaluationUse, Protocol
from melp_bench.results import Outcome, ResultRecord
from melp_bench.runs.measurements import Planned, identity_of, measurements
from melp_bench.runs.run import OnPlan, RunResult, carry_out, encoder_spec
from melp_bench.runs.run_spec import RunSpec
from melp_bench.runs.stores import open_stores, unprepared
from melp_bench.runs.toggles import ALONE_AND_AS_PUBLISHED, Toggled, defects_of, toggled

EVERY = (*defects(), ALONE_AND_AS_PUBLISHED)
"""What is toggled where nobody says otherwise: each defect alone, and the two that a publication has only together."""


def prepare_toggles(
    spec: RunSpec, catalogue: Catalogue, names: Sequence[str], listener: Listener | None = None, *, make: bool = True
) -> tuple[RunSpec, Toggled]:
    """Return the run that measures the spec's model with and without each defect in `names`, and how its rows belong together.

    Without `make` no corpus is generated: where one is not there, every defect is taken to change something on it.

    Raises:
        UserError: not one model is given, or nothing can be toggled.
    """
    if len(spec.models) != 1:
        raise UserError(f"{len(spec.models)} models are given; the defects are toggled on one, so give one")
    for name in names:
        defects_of(name)
    encoder = encoder_spec(spec, catalogue)  # a wrong name is told before a corpus is made
    there = make or not unprepared(spec.protocol, catalogue)
    stores = open_stores(spec.protocol, catalogue, listener or Silence(), spec.workers) if there else {}
    found = toggled(spec.protocol, names, stores, encoder)
    return replace(spec, protocol=found.protocol), found


def measure_moves(
    spec: RunSpec,
    catalogue: Catalogue,
    names: Sequence[str] = EVERY,
    *,
    listener: Listener | None = None,
    on_plan: OnPlan = lambda plan, changes: None,
) -> tuple[MovesPage, RunResult]:
    """Run what is missing of the rows with and without each defect, and return what each moves.

    Raises:
        UserError: as `prepare_toggles`.
    """
    asked, found = prepare_toggles(spec, catalogue, names, listener)
    result = carry_out(asked, catalogue, listener=listener, on_plan=on_plan)
    for failure in result.failures:
        failure.raise_again()
    rows = {identity_of(row.planned): record for row, record in zip(result.plan.rows, result.rows, strict=True)}
    moves = []
    for toggle in found.toggles:
        before, after = (_planned(use, found.protocol, catalogue) for use in (toggle.before, toggle.after))
        for one, two in zip(before, after, strict=True):
            keys = identity_of(one), identity_of(two)
            if keys[0] != keys[1]:  # else the defect is none here: all of the labels are one set, however it is drawn
                moves.append(move_between(toggle.defect.name, one.measurement.setting, rows[keys[0]], rows[keys[1]]))
    rule, model = spec.protocol, result.rows[0].model if result.rows else spec.models[0]
    told = f"{rule.name} (rev {rule.revision}, {rule.hash[:8]})"
    summaries = {name: defects_of(name).summary for name in names}
    return MovesPage(model, told, tuple(moves), tuple(found.idle), summaries), result


def _planned(use: EvaluationUse, protocol: Protocol, catalogue: Catalogue) -> list[Planned]:
    return measurements(protocol.model_copy(update={"evaluations": [use]}), catalogue)


def move_between(
    group: str, setting: str, before: ResultRecord, after: ResultRecord, outcomes: tuple[Outcome, Outcome] | None = None
) -> Move:
    """Return how the primary score moves between two rows of one model, task and setting.

    `outcomes` stand in the place of the rows' own, where these were measured anew by another metric.
    """
    move = Move(
        group=group,
        evaluation=before.evaluation_label or before.evaluation,
        task=before.task,
        setting=setting,
        generated=before.generated,
    )
    one, two = outcomes or (before.outcome, after.outcome)
    if one is None or two is None:
        second = "" if one is None else " in the second"
        return replace(move, note=f"not applicable{second}: {before.reason or after.reason}")
    scores = one.scores[one.primary], two.scores[two.primary]
    classes = len(one.classes) - len(one.excluded), len(two.classes) - len(two.excluded)
    move = replace(move, metric=one.metrics[one.primary], before=scores[0], after=scores[1], classes=classes)
    if one.resamples is None or two.resamples is None or not _same_patients(before, after):
        value = scores[1].value - scores[0].value
        return replace(
            move, difference=Difference(value, -math.inf, math.inf, 1.0), note="not on the same records: no interval"
        )
    resampled = unpack(two.resamples.values), unpack(one.resamples.values)
    level = float(before.inputs.interval["level"])
    return replace(move, difference=difference_of(scores[1].value - scores[0].value, *resampled, level))


def _same_patients(one: ResultRecord, two: ResultRecord) -> bool:
    """Return whether two rows scored the same records, so that they met the same resamples of patients.

    Labels may differ, which is what some defects are about: resamples are drawn of the patients alone.
    """
    stores = [list(record.inputs.datasets.values())[-1] for record in (one, two)]
    counts = [[record.outcome.details.get(n) for n in ("records", "patients")] for record in (one, two) if record.outcome]
    return stores[0] == stores[1] and one.inputs.interval == two.inputs.interval and len(counts) == 2 and counts[0] == counts[1]
