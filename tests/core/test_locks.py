"""One process at a time in a folder, on any file system, whatever becomes of the one that holds it."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from melp_bench import locks
from melp_bench.errors import UserError
from melp_bench.home import A_DAY, TEMPORARY, atomic_write, remove_leftovers, temporary_path
from melp_bench.locks import HOLDER, LOCK, SOFT, empty_folder, folder_lock


def held_elsewhere(folder: Path) -> int:
    """Return the id of another process that holds the lock of `folder` until it is killed."""
    said, say = os.pipe()
    child = os.fork()
    if child == 0:
        with folder_lock(folder, "testing"):
            os.write(say, b".")
            time.sleep(600)
        os._exit(0)
    os.close(say)
    assert os.read(said, 1) == b"."
    os.close(said)
    return child


def test_who_waits_is_told_for_whom_and_goes_on_when_the_other_is_killed(tmp_path: Path) -> None:
    child, heard = held_elsewhere(tmp_path), list[str]()
    threading.Timer(0.5, os.kill, (child, signal.SIGKILL)).start()
    with folder_lock(tmp_path, "waiting", heard.append):
        os.waitpid(child, 0)
        assert f'"pid": {os.getpid()}' in (tmp_path / HOLDER).read_text()
    (line,) = heard
    assert line.startswith(f"waiting for process {child} on ")
    assert ", which is testing since 20" in line
    assert not (tmp_path / HOLDER).exists()


def test_a_free_lock_is_taken_in_silence_again_and_again(tmp_path: Path) -> None:
    for _ in range(3):
        heard: list[str] = []
        with folder_lock(tmp_path / "new", "testing", heard.append):
            pass
        assert heard == []
    assert [path.name for path in (tmp_path / "new").iterdir()] == [LOCK]


def test_an_error_under_the_lock_frees_it(tmp_path: Path) -> None:
    with pytest.raises(KeyError), folder_lock(tmp_path, "failing"):
        raise KeyError("a")
    with folder_lock(tmp_path, "testing", pytest.fail):
        pass


@pytest.mark.parametrize("error", [NotImplementedError("no flock"), OSError(errno.ENOTSUP, "not supported")])
def test_a_file_system_without_locks_gets_a_file_that_stands_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def refuse(self: Any, *_: object, **__: object) -> None:
        raise error

    class Refusing(FileLock):  # type: ignore[misc, valid-type]
        acquire = refuse

    monkeypatch.setattr(locks, "FileLock", Refusing)
    with folder_lock(tmp_path, "testing"):
        assert (tmp_path / SOFT).exists()
    assert not (tmp_path / SOFT).exists()
    assert "has no locks of its own" in caplog.text


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"), folder_lock(tmp_path / "file" / "inner", "testing"):
        pass


def test_a_folder_is_emptied_but_for_its_lock(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    with folder_lock(tmp_path, "emptying"):
        empty_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


# ------------------------------------------------------------------------------------------------------ temporary files


def test_no_two_temporary_files_have_one_name(tmp_path: Path) -> None:
    names = {temporary_path(tmp_path / "a.bin") for _ in range(100)}
    assert len(names) == 100
    assert len(temporary_path(tmp_path / ("x" * 255)).name) < 200


def test_leftovers_of_the_dead_and_of_yesterday_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    mine, old = temporary_path(tmp_path / "a"), temporary_path(tmp_path / "b")
    child = os.fork()
    if child == 0:
        temporary_path(tmp_path / "of-the-dead").write_text("")
        os._exit(0)
    os.waitpid(child, 0)
    (foreign := tmp_path / f"{TEMPORARY}00000000-1-abc-c").write_text("")  # of another machine
    for path in (mine, old):
        path.write_text("")
    os.utime(old, (time.time() - 2 * A_DAY,) * 2)
    remove_leftovers(tmp_path)
    assert set(tmp_path.iterdir()) == {mine, foreign}


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_folder_that_cannot_be_synchronised_does_not_fail_a_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    whole = os.fsync

    def refuse(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):  # noqa: PTH112
            raise OSError(number, os.strerror(number))
        whole(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    atomic_write(tmp_path / "a", "whole")
    assert (tmp_path / "a").read_text() == "whole"
