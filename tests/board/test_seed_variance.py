"""The parts of a score's uncertainty: what was put in comes out, and the interval over seeds and patients holds."""

from __future__ import annotations

import numpy as np
import pytest
from board_rows import row, score

from melp_bench.board.arrangement import build_board
from melp_bench.board.seed_variance import seed_variance, seed_variances
from melp_bench.measure import pack
from melp_bench.results import Resamples, ResultRecord

TEST, PRETRAINING, PROBE = 0.010, 0.020, 0.012
TRUTH = 0.8


def method(generator: np.random.Generator, seeds: int = 4, probes: int = 3, resamples: int = 200) -> list[ResultRecord]:
    """Return a row per pretraining seed, with the three variances put in."""
    patients = TEST * generator.standard_normal()
    shared = TEST * generator.standard_normal(resamples)
    rows = []
    for seed in range(seeds):
        pretrained = PRETRAINING * generator.standard_normal()
        by_probe = TRUTH + patients + pretrained + PROBE * generator.standard_normal(probes)
        value = float(by_probe.mean())
        kept = Resamples(origin="one", values=pack(value + shared))
        made = row("m", "linear_probe", setting="1 %", auroc=score(value, 0.02), resamples=kept)
        inputs = made.inputs.model_copy(update={"model": {**made.inputs.model, "seed": seed}})
        assert made.outcome is not None
        outcome = made.outcome.model_copy(
            update={
                "details": {"auroc_by_seed": by_probe.tolist()},
                "scores": {"auroc": made.outcome.scores["auroc"].model_copy(update={"value": value, "low": 0.0, "high": 1.0})},
            }
        )
        rows.append(made.model_copy(update={"key": inputs.key, "inputs": inputs, "outcome": outcome}))
    return rows


def test_the_three_variances_that_were_put_in_come_out() -> None:
    found = [seed_variance(method(np.random.default_rng(seed))) for seed in range(400)]
    kept = [one for one in found if one is not None]
    assert len(kept) == 400
    assert np.mean([one.test_sd**2 for one in kept]) == pytest.approx(TEST**2, rel=0.05)
    assert np.mean([(one.probe_sd or 0) ** 2 for one in kept]) == pytest.approx(PROBE**2, rel=0.1)
    assert np.mean([(one.pretraining_sd or 0) ** 2 for one in kept]) == pytest.approx(PRETRAINING**2, rel=0.15)


def test_the_interval_over_seeds_and_patients_holds_where_that_over_patients_does_not() -> None:
    held = alone = 0
    for seed in range(400):
        found = seed_variance(method(np.random.default_rng(seed), resamples=100))
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        held += found.low <= TRUTH <= found.high
        alone += found.score.low <= TRUTH <= found.score.high
    assert 0.92 <= held / 400 <= 0.98
    assert alone / 400 < 0.85


def test_one_pretraining_seed_says_nothing_of_pretraining_and_one_of_each_nothing_at_all() -> None:
    (one,) = method(np.random.default_rng(0), seeds=1)
    found = seed_variance([one])
    assert found is not None
    assert (found.pretraining_sd, found.low, found.high, found.pretraining_seeds, found.probe_seeds) == (None, None, None, 1, 3)
    bare = method(np.random.default_rng(0), seeds=1, probes=1)
    assert seed_variance(bare) is None
    assert seed_variance([]) is None
    assert seed_variance([row("x", auroc=score(0.5, 0.1))]) is None
    assert seed_variance([row("x", reason="no")]) is None


def test_seeds_that_agree_leave_the_interval_of_the_patients() -> None:
    rows = method(np.random.default_rng(0), seeds=3, probes=1, resamples=4000)
    same = [r.model_copy(update={"outcome": rows[0].outcome}) for r in rows]
    found = seed_variance(same)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.pretraining_sd == 0.0
    assert found.probe_sd is None
    assert found.high - found.low == pytest.approx(2 * 1.96 * found.test_sd, rel=0.01)


def test_a_board_tells_them_of_every_cell_with_seeds() -> None:
    rows = [*method(np.random.default_rng(0)), row("alone", "linear_probe", setting="1 %", auroc=score(0.5, 0.1))]
    (section,) = build_board(rows)
    assert [(label, found.pretraining_seeds) for _, label, found in seed_variances(section)] == [("m", 4)]
