from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from melp_bench.metrics import acc_as_published, accuracy_at, max_f1


@pytest.mark.parametrize("seed", range(4))
def test_the_maximal_f1_is_the_best_over_every_threshold_and_its_threshold_the_lowest(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.random((60, 3)) < 0.25
    labels[0] = True
    scores = np.round(generator.standard_normal((60, 3)) + labels, 1)
    best, threshold = max_f1(scores, labels)
    for c in range(3):
        tried = {t: f1_score(labels[:, c], scores[:, c] >= t) for t in np.unique(scores[:, c])}
        assert best[c] == pytest.approx(max(tried.values()), abs=1e-12)
        assert threshold[c] == min(t for t, f in tried.items() if f > max(tried.values()) - 1e-12)


def test_a_perfect_classifier_is_right_everywhere_but_not_by_the_published_count() -> None:
    labels = np.array([[True], [True], [False]])
    scores = labels.astype(np.float32)
    best, threshold = max_f1(scores, labels)
    assert best[0] == 1.0
    assert accuracy_at(scores, labels, threshold)[0] == 1.0
    assert acc_as_published(scores, labels)[0] == pytest.approx(1 / 3)  # nothing is strictly above 1


def test_constant_scores_call_everything_positive() -> None:
    labels = np.array([[True], [False], [False], [False]])
    best, threshold = max_f1(np.zeros((4, 1)), labels)
    assert best[0] == pytest.approx(2 * 0.25 / 1.25)
    assert accuracy_at(np.zeros((4, 1)), labels, threshold)[0] == 0.25


def test_a_class_without_a_positive_has_an_f1_of_zero() -> None:
    assert max_f1(np.arange(3.0)[:, None], np.zeros((3, 1), dtype=bool))[0][0] == 0.0
