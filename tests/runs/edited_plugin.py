"""A stranger's distribution in a folder of its own, whose encoder a test edits, and the command line that sees it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ORIGINAL = (ROOT / "tests" / "external" / "melp_bench_external.py").read_text(encoding="utf-8")
START = "import sys; from melp_bench.cli import main; main(sys.argv[1:])"
NAME = "edited-convnet"
PROTOCOL = """
name = "{name}"
revision = 1
summary = "for tests"

[datasets.synthetic]
dataset = "synthetic"
options = {{ num_records = 120, seed = 0 }}

[pretrain]
dataset = "synthetic"
steps = {steps}
batch_size = 8
validate_every = 2

[interval]
resamples = 20

[[evaluations]]
name = "linear_probe"
tasks = ["synthetic/super"]
options.fractions = [1.0]
options.seeds = [0]
options.epochs = 3
"""


class EditedPlugin:
    """The example package under another name, installed as `pip install` would lay it out."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.module = folder / "site", folder / "site" / "edited_convnet.py"
        info = self.folder / "edited_convnet-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: edited-convnet\nVersion: 1.0\n", encoding="utf-8")
        (info / "RECORD").write_text("edited_convnet.py,,\n", encoding="utf-8")
        (info / "entry_points.txt").write_text("[melp_bench]\nedited = edited_convnet\n", encoding="utf-8")
        self.write()

    def write(self, was: str = "", now: str = "") -> None:
        """Write the module with `was` replaced by `now`."""
        text = ORIGINAL.replace("external-convnet", NAME)
        assert was in text
        self.module.write_text(text.replace(was, now) if was else text, encoding="utf-8")


def environment(home: Path, site: Path | None = None) -> dict[str, str]:
    """Return the environment of a command line with a home of its own."""
    path = os.pathsep.join(str(p) for p in (site, os.environ.get("PYTHONPATH")) if p)
    return {**os.environ, "MELP_BENCH_HOME": str(home), "PYTHONPATH": path, "COLUMNS": "200", "PYTHONDONTWRITEBYTECODE": "1"}


def started(arguments: list[str], home: Path, site: Path | None = None) -> subprocess.Popen[str]:
    """Start the command line as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", START, *arguments],
        env=environment(home, site),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def told(arguments: list[str], home: Path, site: Path | None = None) -> str:
    """Return what the command line says, in one line per line, after it went well."""
    process = started(arguments, home, site)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    return out


def write_protocol(folder: Path, *, name: str = "tiny", steps: int = 2) -> str:
    """Write a protocol that is run in seconds, and return its path."""
    path = folder / f"{name}.toml"
    path.write_text(PROTOCOL.format(name=name, steps=steps), encoding="utf-8")
    return str(path)
