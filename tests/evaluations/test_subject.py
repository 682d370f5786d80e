from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from melp_bench.evaluations.subject import TaskData

Make = Callable[..., TaskData]


@pytest.mark.parametrize("split", ["holdout", "cross-validate"])
def test_every_scored_record_is_test_once_and_no_patient_is_in_two_parts(make_task: Make, split: str) -> None:
    task = make_task(split=split)
    tested = np.concatenate([test for _, _, test in task.parts()])
    assert sorted(tested) == task.scored().tolist()
    for part in task.parts():
        assert sorted(np.concatenate(part)) == list(range(400))
        train, validation, test = (set(task.patients[positions]) for positions in part)
        assert not train & validation | train & test | validation & test


def test_record_order_keeps_every_record_with_its_own(make_task: Make) -> None:
    task = make_task(records=40)
    order = np.random.default_rng(0).permutation(40)
    mixed = TaskData(
        **{
            **vars(task),
            **{
                name: getattr(task, name)[order]
                for name in ("labels", "record_ids", "patients", "folds", "embedding", "record")
            },
        }
    )
    back = mixed.in_record_order()
    for name in ("labels", "record_ids", "patients", "folds", "embedding", "record"):
        np.testing.assert_array_equal(getattr(back, name), getattr(task, name))
