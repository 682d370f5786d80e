"""The command that writes boards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from board_rows import realistic_rows, row, score

from melp_bench.cli.leaderboard import leaderboard
from melp_bench.errors import UserError
from melp_bench.results import write_result


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MELP_BENCH_HOME", str(tmp_path))
    for record in realistic_rows():
        write_result(record, tmp_path / "leaderboard" / "results")
    return tmp_path / "leaderboard"


def test_by_default_rows_and_board_are_under_home(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leaderboard()
    assert {path.name for path in home.iterdir()} == {
        "results",
        "README.md",
        "index.html",
        "board.csv",
        "methods-by-tasks.csv",
        "board.tex",
        "statistics.json",
    }
    said = capsys.readouterr().out
    assert "≈ best" in said
    assert str(home / "index.html") in said


def test_the_terminal_shows_another_metric_if_rows_have_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leaderboard(metric="auprc")
    assert "macro AUPRC" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"no row has the metric 'auprk'; did you mean 'auprc'\? Known: auprc, auroc"):
        leaderboard(metric="auprk")


def test_check_passes_on_a_fresh_board_and_complains_in_one_line_about_a_stale_one(home: Path) -> None:
    with pytest.raises(UserError, match="stale"):
        leaderboard(check=True)
    assert not (home / "index.html").exists()  # it writes nothing
    leaderboard()
    leaderboard(check=True)
    write_result(row("late", auroc=score(0.5, 0.1)), home / "results")
    with pytest.raises(UserError) as caught:
        leaderboard(check=True)
    assert "\n" not in str(caught.value)


def test_without_rows_it_says_how_to_get_some(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run demo"):
        leaderboard(results=tmp_path / "nowhere", out=tmp_path)


def test_the_command_is_imported_without_torch() -> None:
    code = "import sys, melp_bench.cli.leaderboard; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
