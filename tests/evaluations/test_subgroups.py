"""Groups by sex and age: who is in them, and that the probe is everybody's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from melp_bench.errors import NotApplicable, UserError
from melp_plugins.evaluations.linear_probe import LinearProbe
from melp_plugins.evaluations.subgroups import Subgroups, bands, members

Make = Callable[..., Any]


def of_people(made: Any) -> Any:
    """Return the task with ages of 20 to 99, some unknown, and both sexes, some unknown."""
    numbers = np.arange(len(made))
    ages = np.where(numbers % 10 == 9, np.nan, 20.0 + numbers % 80)
    return made.change(ages=ages, sexes=np.array(["F", "M", ""])[numbers % 3])


def test_bands_of_age_part_everybody_once(make_task: Make) -> None:
    task = of_people(make_task()).task
    assert bands((40, 60, 75)) == ["below 40", "40 to 59", "60 to 74", "75 and above"]
    inside = np.stack([members(task, band, (40, 60, 75)) for band in bands((40, 60, 75))])
    assert (inside.sum(axis=0) == np.isfinite(task.ages)).all()
    assert set(task.ages[inside[1]]) <= set(range(40, 60))
    assert (task.sexes[members(task, "women", ())] == "F").all()


def test_groups_together_are_the_linear_probe_of_everybody(make_task: Make, context_of: Make) -> None:
    made = of_people(make_task(split="cross-validate"))
    evaluation = Subgroups(ages=(), seeds=(0,))
    rows = list(evaluation.expand(["s/x"]))
    assert [row.setting for row in rows] == ["women", "men"]
    whole = LinearProbe(fractions=(1.0,), seeds=(0,), patience=20)
    (everybody,) = whole.expand(["s/x"])
    context = context_of(made)
    expected = whole.run(context, everybody)
    scores = dict(zip(expected.record_ids, expected.scores[0].tolist(), strict=True))
    for row, sex in zip(rows, "FM", strict=True):
        found = evaluation.run(context, row)
        assert set(found.record_ids) == set(made.task.record_ids[made.task.sexes == sex])
        assert [scores[name] for name in found.record_ids] == found.scores[0].tolist()


def test_a_group_of_nobody_is_not_scored_and_odd_ages_are_refused(make_task: Make, context_of: Make) -> None:
    made = make_task()  # everybody is a woman of 60
    evaluation = Subgroups(seeds=(0,))
    rows = {row.setting: row for row in evaluation.expand(["s/x"])}
    with pytest.raises(NotApplicable, match="no scored record of 's/x' is known to be of the group 'men'"):
        evaluation.run(context_of(made), rows["men"])
    for ages in ((60, 40), (0, 40)):
        with pytest.raises(UserError, match="wanted rising years"):
            Subgroups(ages=ages)
    with pytest.raises(UserError, match="wanted rising years"):
        Subgroups(ages=(), sexes=False)
