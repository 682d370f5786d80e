"""The workflow that checks submissions: its steps, run here as they stand in the file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from sent_rows import Board, tampered

from melp_bench.plugins import discover
from melp_bench.runs.submission import pack_bundle, read_bundle

WORKFLOW = Path(__file__).parents[2] / "docs" / "check-submission.yml"


def steps() -> list[str]:
    """Return the commands of the workflow, but for the installation."""
    job: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["check"]
    return [step["run"] for step in job["steps"] if "run" in step and step["name"] != "install"]


def carried_out(folder: Path) -> list[subprocess.CompletedProcess[str]]:
    """Run the steps in `folder` until one fails, as a runner does."""
    tools = folder / "bin"
    tools.mkdir()
    script = tools / "melp-bench"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m melp_bench "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "MELP_BENCH_HOME": str(folder / "home")}
    done = []
    for command in steps():
        call = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command]
        done.append(subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True, check=False))
        if done[-1].returncode:
            break
    return done


@pytest.mark.slow
def test_a_bundle_that_is_whole_passes_and_one_with_a_changed_prediction_does_not(tmp_path: Path) -> None:
    board = Board.made(tmp_path / "theirs", discover())
    bundle = board.bundle(tmp_path)
    good, bad = tmp_path / "good", tmp_path / "bad"
    for folder in (good, bad):
        (folder / "submissions").mkdir(parents=True)
    (good / "submissions" / "a.zip").write_bytes(bundle.read_bytes())
    changed = tampered(read_bundle(bundle), board.rows[0], seal=True)
    (bad / "submissions" / "a.zip").write_bytes(pack_bundle(changed))
    passed = carried_out(good)
    assert [step.returncode for step in passed] == [0, 0, 0], passed
    assert "2 verified" in passed[-1].stdout
    assert (good / "leaderboard" / "README.md").is_file()
    failed = carried_out(bad)
    assert [step.returncode for step in failed] == [0, 2]
    assert "melp · d/super · zero_shot" in failed[-1].stderr
    assert not (bad / "leaderboard").exists()


def test_the_workflow_can_change_nothing() -> None:
    given = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    assert given["permissions"] == {"contents": "read"}
    assert "pull_request" in given[True]  # YAML reads the key `on` as true
    assert "secrets" not in WORKFLOW.read_text(encoding="utf-8")
