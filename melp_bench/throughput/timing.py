"""How long something takes: warmed up, synchronised, as a median with its quartiles."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Spread:
    """A median and its quartiles."""

    median: float
    low: float  # first quartile
    high: float  # third quartile


def spread(values: Sequence[float]) -> Spread:
    """Return median and quartiles of `values`, by linear interpolation."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was told; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_calls(
    call: Callable[[], object],
    *,
    repeats: int,
    warmup: int,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Return the seconds of each of `repeats` calls, after `warmup` calls that are not timed."""
    for _ in range(warmup):
        call()
    synchronise(device)
    seconds = []
    for _ in range(repeats):
        start = clock()
        call()
        synchronise(device)
        seconds.append(clock() - start)
    return seconds
