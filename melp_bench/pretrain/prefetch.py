"""The next batch is read while the model works on this one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray


def prefetched(
    read: Callable[[NDArray[np.int64]], Any], positions: Callable[[int], NDArray[np.int64]], steps: Sequence[int]
) -> Iterator[tuple[int, Any, float]]:
    """Yield (step, batch, seconds waited for it) for each of `steps`, whose records are at `positions(step)`.

    One thread reads one batch ahead. Reading draws nothing at random, so that no bit depends on when it happens.
    """
    if not len(steps):
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as reader:
        coming = reader.submit(lambda: read(positions(steps[0])))
        for place, step in enumerate(steps):
            begun = time.perf_counter()
            batch = coming.result()
            waited = time.perf_counter() - begun
            if place + 1 < len(steps):
                later = steps[place + 1]
                coming = reader.submit(lambda later=later: read(positions(later)))  # type: ignore[misc]
            yield step, batch, waited
