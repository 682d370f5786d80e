"""A protocol that is run in seconds, and the command line called from within or as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from melp_bench.cli import _run

PROTOCOL = """
name = "tiny"
revision = 1
summary = "for tests"
models = ["melp", "random-init"]

[datasets.synthetic]
dataset = "synthetic"
options = { num_records = 120, seed = 0 }

[pretrain]
dataset = "synthetic"
steps = 16
batch_size = 8
validate_every = 2
recipe = "melp"

[interval]
resamples = 20

[[evaluations]]
name = "zero_shot"
tasks = ["synthetic/super"]

[[evaluations]]
name = "linear_probe"
tasks = ["synthetic/super"]
options.fractions = [0.2, 0.5, 1.0]
options.seeds = [0]
options.epochs = 3
"""
SMALL = ["--set", "encoder.layers=1", "--set", "text.layers=1", "--set", "token.layers=1"]
START = "import sys; from melp_bench.cli import main; main(sys.argv[1:])"


def write_protocol(folder: Path, text: str = PROTOCOL) -> str:
    path = folder / "tiny.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def call(*arguments: str | Path) -> int:
    """Run the command line here, and return its exit status."""
    return _run([str(a) for a in arguments], verbose=False)


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the only line of standard error."""
    told = capsys.readouterr().err
    assert told.count("\n") == 1, told
    assert "Traceback" not in told
    assert told.startswith("melp-bench: ")
    return told


def stopped(
    arguments: list[str], home: Path, ready: Callable[[], bool], number: signal.Signals
) -> subprocess.CompletedProcess[str]:
    """Start the command line, send `number` to it and its children once `ready`, and return how it ended."""
    process = subprocess.Popen(
        [sys.executable, "-c", START, *arguments],
        env={**os.environ, "MELP_BENCH_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # tests may run in the background
    )
    ends = time.monotonic() + 90
    while not ready():
        assert process.poll() is None, f"it ended before it could be stopped: {process.communicate()}"
        assert time.monotonic() < ends, "it never came so far"
        time.sleep(0.01)
    os.killpg(process.pid, number)
    out, told = process.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, out, told)
