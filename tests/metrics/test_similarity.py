"""CKA: it is what a sum over quadruples says, moves with no rotation, and finds no likeness where there is none."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from melp_bench.metrics.similarity import _hsic, cka, cka_interval

RNG = np.random.default_rng(0)


def test_a_term_is_the_mean_over_quadruples_of_different_records() -> None:
    """HSIC is the expectation of k(1,2) (l(1,2) + l(3,4) - 2 l(1,3)) over independent records; this is its U-statistic."""
    first, second = RNG.standard_normal((6, 3)), RNG.standard_normal((6, 2))
    one, two = first @ first.T, second @ second.T
    slow = [one[a, b] * (two[a, b] + two[c, d] - 2 * two[a, c]) for a, b, c, d in itertools.permutations(range(6), 4)]
    assert _hsic(one, two) == pytest.approx(np.mean(slow), rel=1e-9)


def test_rotation_size_and_offset_do_not_count_and_the_order_of_the_two_neither() -> None:
    features = RNG.standard_normal((80, 5)) * np.arange(1, 6)
    turned = 3 * features @ np.linalg.qr(RNG.standard_normal((5, 5)))[0] + 7
    assert cka(features, turned) == pytest.approx(1)
    other = np.c_[features[:, :2], RNG.standard_normal((80, 3))]
    assert 0 < cka(features, other) < 1
    assert cka(features, other) == pytest.approx(cka(other, features))


def test_independent_features_are_not_alike_however_many_channels_they_have() -> None:
    found = [cka(RNG.standard_normal((60, 200)), RNG.standard_normal((60, 200))) for _ in range(40)]
    assert np.mean(found) == pytest.approx(0, abs=3 * np.std(found) / 40**0.5 + 1e-3)
    assert np.isnan(cka(np.ones((9, 2)), RNG.standard_normal((9, 2))))


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """The truth is CKA of the covariances: x = (u, v), y = (u, w), so that it is |cov|^2 over the sizes, here 4 / 5."""

    def drawn(seed: int) -> bool:
        generator = np.random.default_rng(seed)
        shared, own, other = generator.standard_normal((3, 150))
        one, two = np.c_[2**0.5 * shared, own], np.c_[2**0.5 * shared, other]
        found = cka_interval(one, two, np.arange(150).astype(str))
        return found.low <= 0.8 <= found.high

    assert 0.88 <= np.mean([drawn(seed) for seed in range(150)]) <= 1.0


def test_records_of_a_patient_are_left_out_together() -> None:
    features = RNG.standard_normal((40, 3))
    twice, patients = np.repeat(features, 2, axis=0), np.repeat(np.arange(40), 2)
    other = twice + np.repeat(RNG.standard_normal((40, 3)), 2, axis=0)
    together, apart = (cka_interval(twice, other, names) for names in (patients, np.arange(80)))
    assert together.high - together.low > 1.1 * (apart.high - apart.low)
    with pytest.raises(ValueError, match="the same records"):
        cka(features, features[:5])
