"""No home, no letters, no room and no output at all: told in one line, never a traceback after the work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_run import START, call, one_line


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A container's user id without an entry ended in a traceback."""

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("MELP_BENCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert call("data", "list") == 2
    assert "set MELP_BENCH_HOME to a folder you can write" in one_line(capsys)


def listed(home: Path, redirect: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `data list` with its output sent elsewhere by a shell."""
    environment = os.environ | {"MELP_BENCH_HOME": str(home), **more}
    command = ["sh", "-c", f'"$0" -c "$1" data list {redirect}', sys.executable, START]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_output_that_is_ascii_full_or_closed_is_no_traceback(tmp_path: Path) -> None:
    """What was printed after the work ended in a traceback."""
    plain = listed(tmp_path, "", PYTHONIOENCODING="ascii")
    assert plain.returncode == 0
    assert "no store yet" in plain.stdout
    closed = listed(tmp_path, ">&-")
    assert (closed.returncode, closed.stderr) == (0, "")
    if Path("/dev/full").exists():
        full = listed(tmp_path, "> /dev/full")
        assert full.returncode == 2
        assert full.stderr.startswith("melp-bench: cannot write to the terminal or file that output goes to: No space left")
        assert full.stderr.count("\n") == 1
