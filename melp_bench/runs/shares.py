"""Cells shared among processes of this machine, or over a Ray cluster: each share makes its rows as a run of its own would.

A share is some rows of one model; each process plans again and makes those of them that are not there, so that whoever is
killed loses nothing that was written. A process computes with as many threads as this one, so that rows are the same, to the
bit, however many share them: with `--jobs N` OMP_NUM_THREADS is best a N-th of the cores.
Nodes of a cluster need the same installation, and `$MELP_BENCH_HOME` and the board's folder on a file system that all see.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from melp_bench.checkpoint import is_checkpoint
from melp_bench.errors import UserError
from melp_bench.home import home
from melp_bench.progress import Listener
from melp_bench.runs.candidates import Candidate, OnMade
from melp_bench.runs.cells import Failure
from melp_bench.runs.corpora import corpus_of
from melp_bench.runs.plan import Plan, Row
from melp_bench.runs.run_spec import RunSpec

SECONDS = 1.0  # between two looks at how many rows are there
RETRIES = 3  # of a share whose worker died, on a cluster
Keys = frozenset[str]
Submit = Callable[[RunSpec, Keys], "Future[list[Failure]]"]


def share_out(plan: Plan, spec: RunSpec, listener: Listener, on_made: OnMade) -> list[Failure]:
    """Make the missing rows of the plan in other processes, and return the cells that failed.

    Raises:
        UserError: a process died, or there is no Ray.
    """
    missing = plan.missing()
    to_make = {row.candidate.told: row.candidate for row in missing if not is_checkpoint(row.candidate.folder)}
    alone = replace(spec, jobs=1, on="", only=(), skip=(), out=spec.out.absolute())
    opened = _on_ray(spec) if spec.on == "ray" else _processes(spec.jobs)
    failures: list[Failure] = []
    with listener.stage("evaluate", "rows") as advance, opened as submit:
        pending: set[Future[list[Failure]]] = {submit(alone, keys) for keys in shares(missing, spec.jobs)}
        while pending:
            done, pending = wait(pending, timeout=SECONDS, return_when=FIRST_COMPLETED)
            for future in done:
                failures += _result(future, listener)
            advance(len(missing) - len(plan.missing()), len(missing), f"{len(pending)} shares to be done")
    _tell_made(to_make, plan, on_made)
    return failures


def shares(rows: Sequence[Row], jobs: int) -> list[Keys]:
    """Return the keys of the rows of each share, the largest first: a model, or parts of it where weights are there and
    models are fewer than jobs."""
    of_model: dict[str, list[Row]] = {}
    for row in rows:
        of_model.setdefault(row.candidate.told, []).append(row)
    parts = -(-jobs // len(of_model))
    found: list[list[Row]] = []
    for mine in of_model.values():
        several = parts if is_checkpoint(mine[0].candidate.folder) else 1
        found += [mine[start::several] for start in range(several) if mine[start::several]]
    return [frozenset(row.inputs.key for row in share) for share in sorted(found, key=len, reverse=True)]


def _result(future: Future[list[Failure]], listener: Listener) -> list[Failure]:
    try:
        failures = future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "a process of --jobs died (out of memory?); rows that were finished are kept, and the same command goes on"
        ) from error
    for one in failures:
        listener.say(f"failed  {one}")
    return failures


def _tell_made(candidates: Mapping[str, Candidate], plan: Plan, on_made: OnMade) -> None:
    corpus = corpus_of(plan.protocol.pretrain, plan.stores) if plan.protocol.pretrain else None
    for candidate in candidates.values():
        if corpus is not None and is_checkpoint(candidate.folder):
            on_made(candidate, corpus)


@contextmanager
def _processes(jobs: int) -> Iterator[Submit]:
    """Give what starts a share in one of `jobs` processes."""
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield lambda spec, keys: pool.submit(_make_share, spec, keys, str(home()))
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _make_share(spec: RunSpec, keys: Keys, home_folder: str) -> list[Failure]:
    """Make a share, in a process that may be on another machine."""
    os.environ["MELP_BENCH_HOME"] = home_folder
    from melp_bench.runs.run import carry_out_share

    try:
        return carry_out_share(spec, keys)
    except UserError as error:  # of the whole share, such as a damaged checkpoint
        return [Failure(f"{len(keys)} rows of one model", str(error))]


@contextmanager
def _on_ray(spec: RunSpec) -> Iterator[Submit]:
    """Give what starts a share on a Ray cluster: that of RAY_ADDRESS, or one of `jobs` workers on this machine.

    Raises:
        UserError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("--on ray needs Ray, which is not installed; pip install 'melp-bench[ray]'") from error
    from melp_bench.runs.training import choose_device

    mine = not ray.is_initialized()
    if mine:
        address = os.environ.get("RAY_ADDRESS")
        options: dict[str, Any] = {"address": address} if address else {"num_cpus": spec.jobs, "include_dashboard": False}
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    share = ray.remote(num_gpus=int(choose_device(spec.device) == "cuda"), max_retries=RETRIES)(_make_share)
    folder = str(Path(home()).absolute())
    try:
        yield lambda asked, keys: share.remote(asked, keys, folder).future()
    finally:
        if mine:
            ray.shutdown()
