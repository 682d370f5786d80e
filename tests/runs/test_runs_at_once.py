"""Two commands that make one checkpoint at the same time: one makes it, the other waits and takes it."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from edited_plugin import started, told, write_protocol

from melp_bench.checkpoint import check_checkpoint
from melp_bench.home import TEMPORARY
from melp_bench.locks import HOLDER
from melp_bench.results import read_results

MODEL = "supervised+resnet1d-18"


def leftovers(folder: Path) -> list[Path]:
    return list(folder.rglob(f"{TEMPORARY}*"))


@pytest.mark.slow
def test_two_runs_into_one_folder_make_one_checkpoint_and_lose_nothing(tmp_path: Path) -> None:
    protocol, home, board = write_protocol(tmp_path, steps=4), tmp_path / "home", tmp_path / "board"
    both = [started(["run", protocol, "-m", model, "--out", str(board)], home) for model in (MODEL, MODEL)]
    said = [process.communicate(timeout=400)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum(f"best {MODEL}" in " ".join(text.split()) for text in said) == 1, "one of them has trained"
    assert any("waiting for process" in text for text in said), said
    (folder,) = (path for path in (home / "checkpoints").iterdir() if path.is_dir())
    check_checkpoint(folder)
    assert leftovers(home) == leftovers(board) == []
    (row,) = read_results(board / "results")
    assert [path.stem for path in (board / "results" / "predictions").iterdir()] == [row.predictions]
    assert "1 rows: 1 verified" in told(["results", "verify", "--results", str(board / "results")], home)


@pytest.mark.slow
def test_kill_9_of_the_one_that_pretrains_lets_the_other_go_on(tmp_path: Path) -> None:
    protocol, home = write_protocol(tmp_path, steps=40), tmp_path / "home"
    first = started(["pretrain", MODEL, "--protocol", protocol], home)
    ends = time.monotonic() + 200
    while not list(home.glob("checkpoints/*/state/*/last.pt")):
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < ends
        time.sleep(0.05)
    second = started(["pretrain", MODEL, "--protocol", protocol], home)
    time.sleep(3.0)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)
    said, _ = second.communicate(timeout=300)
    assert second.returncode == 0, said
    (folder,) = (path for path in (home / "checkpoints").iterdir() if path.is_dir())
    check_checkpoint(folder)
    assert not (folder / HOLDER).exists()
    assert leftovers(home) == []
    assert "nothing to do" in told(["pretrain", MODEL, "--protocol", protocol], home)
