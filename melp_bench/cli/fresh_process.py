"""A speed measured in a new interpreter, where the peak of memory is its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melp_bench.errors import UserError

if TYPE_CHECKING:
    from melp_bench.throughput.rows import SpeedRow, SubjectName, Work

CHILD = "import sys; from melp_bench.cli.fresh_process import measure_one; measure_one(sys.argv[1], sys.argv[2])"


def in_fresh_process(name: SubjectName, work: Work) -> SpeedRow:
    """Return the row of what `name` says, measured in a new interpreter, where its peak memory is its own.

    Raises:
        UserError: it could not be measured; the reason is its last line.
    """
    from melp_bench.throughput.rows import SpeedRow

    asked = {"name": name.name, "subject": name.model_dump(mode="json"), "work": work.model_dump(mode="json")}
    return SpeedRow.model_validate_json(answer_of_fresh_process(CHILD, asked))


def answer_of_fresh_process(code: str, asked: dict[str, Any]) -> bytes:
    """Return what `code`, given `asked` as JSON and a path, writes there in a new interpreter.

    Raises:
        UserError: it wrote nothing; the reason is its last line.
    """
    with tempfile.TemporaryDirectory(prefix="melp-bench-") as folder:
        path = Path(folder) / "answer"
        command = [sys.executable, "-c", code, json.dumps(asked), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not path.is_file():
            said = done.stderr.strip().splitlines() or [f"its process ended with {done.returncode}"]
            reason = said[-1].removeprefix("melp_bench.errors.UserError: ")
            raise UserError(f"{asked['name']!r} could not be measured: {reason}")
        return path.read_bytes()


def measure_one(asked: str, path: str) -> None:
    """Measure what `asked` (JSON) names and write its row to `path`; what the fresh process runs."""
    import torch

    from melp_bench.home import atomic_write
    from melp_bench.plugins import discover
    from melp_bench.runs.speeds import subject
    from melp_bench.throughput.rows import SubjectName, Work
    from melp_bench.throughput.speed import checked_device, measure

    given = json.loads(asked)
    name, work = SubjectName.model_validate(given["subject"]), Work.model_validate(given["work"])
    device = checked_device(work)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(prefix="melp-bench-") as folder:
        row = measure(subject(name, discover(), work, device, Path(folder)), work, device)
    atomic_write(Path(path), row.model_dump_json())
