"""Few-shot sets, and the probe that sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from melp_bench.errors import NotApplicable, UserError
from melp_bench.results import Outcome
from melp_plugins.evaluations.few_shot import FewShot, k_of_each

Make = Callable[..., Any]
IDS = np.array([f"r{i}" for i in range(200)])
LABELS = np.random.default_rng(3).random((200, 4)) < np.array([0.5, 0.2, 0.05, 0.0])


@pytest.mark.parametrize("k", [1, 5, 50])
def test_each_class_gets_k_positives_or_all_it_has(k: int) -> None:
    chosen = k_of_each(IDS, LABELS, k, seed=0)
    have, given = LABELS.sum(axis=0), LABELS[chosen].sum(axis=0)
    assert (given >= np.minimum(have, k)).all()
    assert len(chosen) <= k * 3  # a record may stand for several classes, and nobody for the last
    assert LABELS[chosen].any(axis=1).all()


def test_sets_are_nested_differ_by_seed_and_do_not_depend_on_order() -> None:
    few, many = (set(k_of_each(IDS, LABELS, k, seed=1).tolist()) for k in (2, 7))
    assert few < many
    assert set(k_of_each(IDS, LABELS, 2, seed=2).tolist()) != few
    turned = k_of_each(IDS[::-1], LABELS[::-1], 2, seed=1)
    assert {199 - i for i in turned.tolist()} == few


def test_more_shots_tell_more(make_task: Make, score: Callable[..., Outcome]) -> None:
    made = make_task(signal=2.0)
    one, many = (score(FewShot(k=(1, 50), seeds=(0,)), made, row=row).scores["auroc"].value for row in (0, 1))
    assert many > one
    assert many > 0.85


def test_what_cannot_be_is_refused(make_task: Make, score: Callable[..., Outcome]) -> None:
    with pytest.raises(UserError, match="wanted numbers of at least 1"):
        FewShot(k=(0,))
    made = make_task()
    nothing = made.relabelled(made.task.parts[0].train, slice(None), value=False)
    with pytest.raises(NotApplicable, match="no training record"):
        score(FewShot(seeds=(0,)), nothing)
