from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from sklearn.metrics import average_precision_score, roc_auc_score

from melp_bench.metrics import Bootstrap, Given
from melp_bench.metrics import bootstrap as bootstrap_all
from melp_plugins.metrics.ranking import auprc, auroc


def make(seed: int = 0, records: int = 120, classes: int = 3, signal: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.random((records, classes)) < 0.3
    labels[0], labels[1] = True, False
    scores = np.round(generator.standard_normal((records, classes)) + signal * labels, 1)
    return scores, labels, np.array([f"p{i // 2}" for i in range(records)])


@dataclass
class Both:
    """The two ranking metrics on the same resamples."""

    auroc: Bootstrap
    auprc: Bootstrap


def bootstrap(scores: np.ndarray, labels: np.ndarray, patients: np.ndarray, **options: float) -> Both:
    stack = scores[None] if scores.ndim == 2 else scores
    return Both(*bootstrap_all([Given(metric(), stack, labels) for metric in (auroc, auprc)], patients, **options))  # type: ignore[arg-type]


def slow(
    scores: np.ndarray, labels: np.ndarray, patients: np.ndarray, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return AUROC and AUPRC of every resample by writing its records out, patient by patient."""
    names = np.unique(patients)
    drawn = np.random.default_rng(seed).integers(len(names), size=(resamples, len(names)))
    area, precision = np.full((2, resamples, labels.shape[1]), np.nan)
    for r in range(resamples):
        rows = np.concatenate([np.flatnonzero(patients == names[k]) for k in drawn[r]])
        for c in range(labels.shape[1]):
            y = labels[rows, c]
            if y.any() and not y.all():
                area[r, c] = roc_auc_score(y, scores[rows, c])
                precision[r, c] = average_precision_score(y, scores[rows, c])
    return area, precision


def test_every_resample_is_that_of_scikit_learn_on_the_drawn_patients_records() -> None:
    scores, labels, patients = make()
    labels[:, 2] = False
    labels[[4, 5], 2] = True  # both of one patient: about a third of the resamples lose the class
    fast = bootstrap(scores, labels, patients, resamples=60, seed=3)
    area, precision = slow(scores, labels, patients, 60, 3)
    np.testing.assert_allclose(fast.auroc.resampled, area, atol=1e-12)
    np.testing.assert_allclose(fast.auprc.resampled, precision, atol=1e-12)
    assert fast.auroc.lost == int(np.isnan(area).any(axis=1).sum()) > 5


def test_a_resample_that_lost_a_class_says_nothing_of_it_in_its_macro_mean() -> None:
    scores, labels, patients = make()
    labels[:, 2] = False
    labels[4, 2] = True
    result = bootstrap(scores, labels, patients, resamples=50)
    area, _ = slow(scores, labels, patients, 50, 0)
    point = [roc_auc_score(labels[:, c], scores[:, c]) for c in range(3)]
    filled = np.where(np.isnan(area), point, area).mean(axis=1)
    macro = result.auroc.resampled_macro()
    wider = np.divide(macro - np.mean(point), filled - np.mean(point))
    assert np.ptp(wider) < 1e-9  # one factor for all: a single positive varies more than its resamples do
    assert wider[0] > 1.5
    value, low, high = result.auroc.macro()
    assert value == pytest.approx(roc_auc_score(labels, scores, average="macro"), abs=1e-12)
    assert low < value - 1.5 * macro.std()
    assert high > value + macro.std()


def test_a_class_that_cannot_be_scored_is_in_no_mean() -> None:
    scores, labels, patients = make()
    labels[:, 1] = False
    result = bootstrap(scores, labels, patients, resamples=40)
    without = bootstrap(scores[:, [0, 2]], labels[:, [0, 2]], patients, resamples=40)
    assert result.auroc.scorable.tolist() == [True, False, True]
    assert result.auroc.macro() == without.auroc.macro()
    assert result.auprc.macro() == without.auprc.macro()
    assert result.auroc.lost == without.auroc.lost == 0


def test_the_size_of_blocks_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels, patients = make()
    whole = bootstrap(scores, labels, patients, resamples=50)
    monkeypatch.setitem(bootstrap_all.__globals__, "CHUNK", 7 * len(labels))
    np.testing.assert_array_equal(bootstrap(scores, labels, patients, resamples=50).auroc.resampled, whole.auroc.resampled)


def test_the_order_of_records_moves_nothing() -> None:
    scores, labels, patients = make()
    order = np.random.default_rng(1).permutation(len(labels))
    one = bootstrap(scores, labels, patients, resamples=50)
    two = bootstrap(scores[order], labels[order], patients[order], resamples=50)
    np.testing.assert_allclose(one.auroc.resampled, two.auroc.resampled, atol=1e-14)
    np.testing.assert_allclose(one.auprc.resampled, two.auprc.resampled, atol=1e-14)


def test_repeating_a_patients_records_teaches_nothing() -> None:
    scores, labels, patients = make()
    one = bootstrap(scores, labels, patients, resamples=50)
    twice = bootstrap(*(np.concatenate([x, x]) for x in (scores, labels, patients)), resamples=50)
    assert twice.auroc.macro() == pytest.approx(one.auroc.macro(), abs=1e-12)


def test_seeds_are_averaged_resample_by_resample() -> None:
    scores, labels, patients = make()
    other = make(9)[0] + labels
    both = bootstrap(np.stack([scores, other]), labels, patients, resamples=30)
    one, two = (bootstrap(s, labels, patients, resamples=30) for s in (scores, other))
    np.testing.assert_allclose(both.auprc.resampled, (one.auprc.resampled + two.auprc.resampled) / 2, atol=1e-14)
    assert both.auroc.seed_macro == pytest.approx([one.auroc.macro()[0], two.auroc.macro()[0]])
    assert both.auroc.macro()[0] == pytest.approx(both.auroc.seed_macro.mean())


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(120):
        scores, labels, patients = make(seed, records=100, classes=1, signal=0.0)  # the true AUROC is 0.5
        _, low, high = bootstrap(scores, labels, patients, resamples=200, seed=seed).auroc.macro()
        covered += low <= 0.5 <= high
    assert 0.87 * 120 <= covered <= 0.995 * 120


def test_a_class_that_no_resample_defines_has_the_widest_interval() -> None:
    nowhere = Bootstrap(auroc(), np.ones((1, 1)), np.full((5, 1), np.nan), 0.95, np.ones(1))
    assert nowhere.of_class(0) == (1.0, 0.0, 1.0)


@pytest.mark.parametrize(
    "change",
    [{"level": 1.0}, {"resamples": 0}, {"patients": np.array(["p"])}, {"scores": np.full((120, 3), np.inf)}],
)
def test_what_makes_no_interval_is_refused(change: dict[str, object]) -> None:
    scores, labels, patients = make()
    with pytest.raises(ValueError, match=r"wanted|not finite"):
        bootstrap(**{"scores": scores, "labels": labels, "patients": patients, **change})  # type: ignore[arg-type]


@pytest.mark.benchmark
def test_a_thousand_resamples_of_a_large_task_are_quick(benchmark: BenchmarkFixture) -> None:
    generator = np.random.default_rng(0)
    labels = generator.random((2158, 23)) < np.geomspace(0.4, 0.003, 23)
    scores = generator.standard_normal((2158, 23)) + labels
    patients = generator.integers(0, 1900, 2158).astype(str)
    result = benchmark(bootstrap, scores, labels, patients, resamples=1000)
    assert result.auroc.resampled.shape == (1000, 23)
