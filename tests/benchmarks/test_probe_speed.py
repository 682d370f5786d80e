"""Nine linear probes of 23 classes as one batched problem, beside one after another as they are usually written, on one thread.

Run with `pytest --benchmark-enable tests/benchmarks`; what it shows are ratios, and the machine does not matter for them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from melp_plugins.evaluations.probe import Fitting, ProbeProblem, fit

RECORDS, CHANNELS, CLASSES = 6000, 256, 23
FITTING = Fitting(epochs=10)
Benchmark = Callable[..., object]
pytestmark = pytest.mark.benchmark(group="nine probes: batched is to be at least 5 x one after another")


@pytest.fixture(autouse=True)
def _only_when_asked(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--benchmark-enable"):
        pytest.skip("a benchmark; run with --benchmark-enable")
    torch.set_num_threads(1)


def made() -> tuple[torch.Tensor, np.ndarray, list[ProbeProblem]]:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((RECORDS, CHANNELS)).astype(np.float32)
    said = features @ rng.standard_normal((CHANNELS, CLASSES)) / 8 + rng.standard_normal((RECORDS, CLASSES))
    train, validation = np.arange(RECORDS - 600), np.arange(RECORDS - 600, RECORDS)
    problems = [
        ProbeProblem(0, seed, train, np.random.default_rng(seed).permutation(train)[: round(fraction * len(train))], validation)
        for fraction in (0.01, 0.1, 1.0)
        for seed in (0, 1, 2)
    ]
    return torch.from_numpy(features), said > 1.5, problems


def test_batched(benchmark: Benchmark) -> None:
    features, labels, problems = made()
    benchmark(lambda: fit(features, labels, problems, FITTING))


def test_one_after_another(benchmark: Benchmark) -> None:
    features, labels, problems = made()
    target = torch.from_numpy(labels.astype(np.float32))

    def one(problem: ProbeProblem) -> None:
        mean, deviation = features[problem.train].mean(0), features[problem.train].std(0)
        x, layer, order = (features - mean) / deviation, nn.Linear(CHANNELS, CLASSES), np.random.default_rng(problem.seed)
        optimizer = torch.optim.AdamW(layer.parameters(), lr=FITTING.learning_rate, weight_decay=FITTING.weight_decay)
        for _ in range(FITTING.epochs):
            steps = 0
            while steps < 10:
                rows = torch.from_numpy(order.permutation(problem.labelled))
                for batch in torch.split(rows, FITTING.batch_size):
                    optimizer.zero_grad()
                    nn.functional.binary_cross_entropy_with_logits(layer(x[batch]), target[batch]).backward()
                    optimizer.step()
                    steps += 1
            with torch.no_grad():
                roc_auc_score(labels[problem.validation], layer(x[problem.validation]).numpy())

    benchmark(lambda: [one(problem) for problem in problems])
