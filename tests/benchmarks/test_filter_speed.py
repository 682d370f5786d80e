"""An encoder's filter beside scipy's, on the same records in one run, on one core.

Run with `pytest --benchmark-enable tests/benchmarks`; what it shows are ratios, and the machine does not matter for them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import signal

from melp_bench.filtering import Filter, filtered

RATE_HZ = 500.0
WANTED = Filter(notch_hz=50.0, band=(0.67, 40.0))
RECORDS = np.random.default_rng(0).standard_normal((32, 12, 5000)).cumsum(axis=-1).astype(np.float32)
Benchmark = Callable[..., object]
pytestmark = pytest.mark.benchmark(group="notch and band, both ways: batched is to be at least 0.8 x scipy on a CPU")


@pytest.fixture(autouse=True)
def _only_when_asked(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--benchmark-enable"):
        pytest.skip("a benchmark; run with --benchmark-enable")
    torch.set_num_threads(1)


def test_scipy(benchmark: Benchmark) -> None:
    notch = signal.iirnotch(50.0, 30.0, fs=RATE_HZ)
    band = signal.butter(4, [0.67, 40.0], btype="bandpass", output="sos", fs=RATE_HZ)
    benchmark(lambda: [signal.sosfiltfilt(band, signal.filtfilt(*notch, record)) for record in RECORDS])


def test_batched(benchmark: Benchmark) -> None:
    records = torch.from_numpy(RECORDS)
    benchmark(lambda: filtered(records, WANTED, RATE_HZ))
