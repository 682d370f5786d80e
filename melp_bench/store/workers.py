"""Shards written by several processes, which die with the one that started them and know nothing of Ctrl-C."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from melp_bench.errors import UserError
from melp_bench.records import Dataset
from melp_bench.store.shard import Job, write_shard


def written(dataset: Dataset, source: Path | None, root: Path, jobs: list[Job], workers: int) -> Iterator[int]:
    """Yield the number of records of each shard as it is written.

    Raises:
        UserError: a worker died, the dataset cannot be sent to one, or a shard cannot be written.
    """
    if workers <= 1:
        yield from (write_shard(dataset, source, root, job) for job in jobs)
        return
    try:
        pickle.dumps(dataset)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise UserError(f"dataset {type(dataset).__name__!r} cannot be sent to workers ({error}); use --workers 1") from error
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start, initargs=(dataset, source, root))
    waiting, running = iter(jobs), set[Future[int]]()
    try:
        for job in waiting:
            with _ctrl_c_held():  # the first of them starts the workers
                running.add(pool.submit(_work, job))
            if len(running) >= 2 * workers:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in finished)
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in finished)
    except BrokenProcessPool as error:
        raise UserError("a worker process died (out of memory?); run again to go on, with fewer --workers") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _ctrl_c_held() -> Iterator[None]:
    """Hold Ctrl-C back for a moment; processes that are started meanwhile never get it, not even while they import."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_STATE: dict[str, Any] = {}  # of a worker process: what is the same for all its jobs


def _start(dataset: Dataset, source: Path | None, root: Path) -> None:
    """Make a worker ready: Ctrl-C is the parent's affair, and a worker does not outlive its parent."""
    threadpool_limits(1)  # a worker per core already: more threads would wait for one another
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _STATE.update(dataset=dataset, source=source, root=root)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _work(job: Job) -> int:
    return write_shard(_STATE["dataset"], _STATE["source"], _STATE["root"], job)
