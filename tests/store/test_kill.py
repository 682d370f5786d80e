"""A run that is killed at any moment goes on to the same store."""

from __future__ import annotations

import os
import random
import signal as signals
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_waves import Beats, content

from melp_bench.store import prepare

SHARDS, WORKERS = 12, 2


def make(root: Path, **changes: object) -> None:
    prepare(Beats(count=16 * SHARDS), name="beats", source=None, root=root, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("stores") / "beats"
    make(root)
    return content(root)


def test_kill_9_at_twenty_random_moments_leaves_no_trace(undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    rng = random.Random(0)
    unfinished = 0
    for number in range(20):
        root = tmp_path / str(number)
        workers = 1 if number % 2 else WORKERS
        after, seconds = rng.randrange(SHARDS), rng.uniform(0, 0.03)
        _killed(root, after_shards=after, seconds=seconds, workers=workers, all_at_once=number % 4 == 0)
        unfinished += not (root / "store.json").exists()
        make(root)
        assert content(root) == undisturbed, f"kill number {number}"
    assert unfinished >= 10  # else the moments are no test


def _killed(root: Path, *, after_shards: int, seconds: float, workers: int, all_at_once: bool) -> None:
    """Prepare in another process and kill it, with or without its workers, some time after a shard."""
    said, say = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        try:
            make(root, workers=workers, progress=lambda done, total: os.write(say, b".") and None)
        finally:
            os._exit(0)
    os.close(say)
    for _ in range(1 + after_shards):
        if not os.read(said, 1):
            break
    time.sleep(seconds)
    (os.killpg if all_at_once else os.kill)(child, signals.SIGKILL)
    os.waitpid(child, 0)
    while os.read(said, 64):  # its workers hold the other end as long as they live
        pass
    os.close(said)


def test_a_worker_needs_no_torch() -> None:
    modules = "melp_bench.store.workers, melp_plugins.datasets.ptb_xl, melp_plugins.datasets.synthetic"
    asked = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0
