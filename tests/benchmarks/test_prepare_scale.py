"""What a record costs `prepare` does not grow with their number: its processor time is flat, and its memory within bounds.

Run with `pytest --benchmark-enable tests/benchmarks`; `MELP_BENCH_MANY_RECORDS=100000,800000` names other numbers of records,
rising. Each is prepared by a process of its own, and one line of figures of each is printed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("many_records.py")
COUNTS = [int(text) for text in os.environ.get("MELP_BENCH_MANY_RECORDS", "4000,16000").split(",")]
MOST_KB = 4.0
"""Memory of a record besides its signal: its metadata while it is prepared, and its row when the store is opened."""
MOST_SLOWER = 1.4


@pytest.fixture(autouse=True)
def _only_when_asked(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--benchmark-enable"):
        pytest.skip("a benchmark; run with --benchmark-enable")


def run(*arguments: str | Path) -> str:
    """Run the script and return what it prints."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def test_time_per_record_is_flat_and_memory_bounded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found: list[dict[str, Any]] = []
    for count in COUNTS:
        run("make", tmp_path / f"in{count}", str(count))
        found.append(json.loads(run("prepare", tmp_path / f"in{count}", tmp_path / f"store{count}")))
        with capsys.disabled():
            print(json.dumps(found[-1]))  # noqa: T201
        assert found[-1]["records"] == count
    small, large = found[0], found[-1]
    grown_kb = 1000 * (large["peak_mb"] - small["peak_mb"]) / (large["records"] - small["records"])
    assert grown_kb < MOST_KB
    for part in ("listed_cpu_s", "read_cpu_s", "joined_cpu_s"):
        assert large[part] / large["records"] < MOST_SLOWER * small[part] / small["records"] + 1e-4, part
    tenths = large["ms_per_record_by_tenth"]
    assert sorted(tenths[5:])[2] < MOST_SLOWER * sorted(tenths[:5])[2], "the later records cost what the first ones do"
