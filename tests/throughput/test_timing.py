"""Times are a median with quartiles of what ran after the warm-up, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from melp_bench.throughput.timing import spread, time_calls

CPU = torch.device("cpu")


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=40))
def test_the_spread_is_numpys_linear_quartiles(values: list[float]) -> None:
    found = spread(values)
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    assert (found.low, found.median, found.high) == pytest.approx((low, median, high))


def test_only_calls_after_the_warm_up_are_timed() -> None:
    ticks = {"now": 0.0, "calls": 0}

    def call() -> None:
        ticks["calls"] += 1
        ticks["now"] += 100.0 if ticks["calls"] <= 3 else float(ticks["calls"])

    seconds = time_calls(call, repeats=4, warmup=3, device=CPU, clock=lambda: ticks["now"])
    assert seconds == [4.0, 5.0, 6.0, 7.0]
    assert ticks["calls"] == 7
