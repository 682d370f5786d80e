"""The next batch is read while the model works on this one, where the model works elsewhere than on the processor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray


def prefetched(
    read: Callable[[NDArray[np.int64]], Any],
    positions: Callable[[int], NDArray[np.int64]],
    steps: Sequence[int],
    *,
    ahead: bool = True,
) -> Iterator[tuple[int, Any, float]]:
    """Yield (step, batch, seconds waited for it) for each of `steps`, whose records are at `positions(step)`.

    One thread reads one batch ahead. Reading draws nothing at random, so that no bit depends on when it happens. With `ahead`
    false each batch is read when it is due: on a processor, a second thread's reading takes the cores from the model (its steps
    took 1.7 times as long on two cores).
    """
    if not len(steps):
        return
    if not ahead:
        for step in steps:
            begun = time.perf_counter()
            batch = read(positions(step))
            yield step, batch, time.perf_counter() - begun
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as reader:
        coming = reader.submit(lambda: read(positions(steps[0])))
        for place, step in enumerate(steps):
            begun = time.perf_counter()
            batch = coming.result()
            waited = time.perf_counter() - begun
            if place + 1 < len(steps):
                coming = reader.submit(partial(_read, read, positions, steps[place + 1]))
            yield step, batch, waited


def _read(read: Callable[[NDArray[np.int64]], Any], positions: Callable[[int], NDArray[np.int64]], step: int) -> Any:
    return read(positions(step))
