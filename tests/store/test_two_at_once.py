"""Two processes that prepare into one folder: one makes the store, the other waits and takes it, whatever happens to either."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from made_waves import Beats, content
from other_process import OtherProcess, Told

from melp_bench.errors import UserError
from melp_bench.locks import HOLDER, LOCK
from melp_bench.records import BadRecord, RecordInfo, Signal
from melp_bench.store import open_store, prepare, verify
from melp_bench.store.exchange import NEXT


def begun(root: Path, *, count: int = 160, pause: float = 0.0, workers: int = 1) -> OtherProcess:
    """Start a process that prepares `count` records into `root`, says after each shard how many are done, and pauses then."""

    def work(say: Told, tell: Told) -> None:
        def progress(done: int, total: int) -> None:
            say(str(done))
            time.sleep(pause)

        prepare(Beats(count=count), name="beats", source=None, root=root, progress=progress, tell=tell, workers=workers)

    return OtherProcess(work)


def alone(root: Path, count: int = 160) -> dict[str, bytes]:
    return content(prepare(Beats(count=count), name="beats", source=None, root=root).root)


@pytest.mark.parametrize("workers", [1, 2])
def test_two_at_once_make_one_whole_store(tmp_path: Path, workers: int) -> None:
    root = tmp_path / "both"
    ends = [process.end() for process in [begun(root, workers=workers, pause=0.02) for _ in range(2)]]
    assert [status for status, _, _ in ends] == [0, 0], ends
    assert content(root) == alone(tmp_path / "alone")
    assert verify(open_store(root)).problems == ()
    assert sum(len(said) > 1 for _, said, _ in ends) == 1, "only one of them has packed records"


def test_who_waits_says_for_whom(tmp_path: Path) -> None:
    root = tmp_path / "s"
    first = begun(root, pause=0.1)
    first.wait_for_line()  # it is at work
    status, _, told = begun(root).end()
    assert first.end()[0] == status == 0
    assert f"waiting for process {first.pid} on " in told
    assert "which is preparing 'beats' since " in told


def test_a_store_of_other_records_is_made_after_the_first_and_not_into_it(tmp_path: Path) -> None:
    root = tmp_path / "s"
    first = begun(root, count=160, pause=0.05)
    first.wait_for_line()
    status, _, told = begun(root, count=96).end()
    assert first.end()[0] == status == 0
    assert "waiting for process" in told
    assert content(root) == alone(tmp_path / "alone", 96)


def test_kill_9_of_the_one_that_holds_the_lock_lets_the_next_go_on(tmp_path: Path) -> None:
    root = tmp_path / "s"
    first = begun(root, pause=0.3)
    for _ in range(3):
        first.wait_for_line()
    second = begun(root)
    time.sleep(0.3)  # it waits by now, or is about to
    first.kill()
    assert first.end()[0] == -signal.SIGKILL
    status, said, told = second.end()
    assert status == 0, told
    assert int(said[0]) >= 32, "it goes on after the shards of the first"
    assert content(root) == alone(tmp_path / "alone")
    assert not (root / HOLDER).exists()


class Broken(Beats):
    """Records none of which can be read."""

    def signal(self, source: Path, info: RecordInfo) -> Signal:
        raise BadRecord("made-bad", "all of them")


def test_a_failing_preparation_leaves_the_store_that_is_there(tmp_path: Path) -> None:
    before = alone(tmp_path / "s")
    with pytest.raises(UserError, match="no record of 'beats' can be used"):
        prepare(Broken(count=48), name="beats", source=None, root=tmp_path / "s")
    with pytest.raises(UserError, match="no record of 'beats' can be used"):
        prepare(Broken(count=160), name="beats", source=None, root=tmp_path / "s", fresh=True)
    assert len(open_store(tmp_path / "s")) == 138
    now = content(tmp_path / "s")
    assert {name: now[name] for name in before} == before
    assert alone(tmp_path / "s") == before, "and nothing is left of the failure"


def test_a_fresh_preparation_that_was_killed_is_gone_on_with(tmp_path: Path) -> None:
    root = tmp_path / "s"
    before = alone(root)
    child = os.fork()
    if child == 0:
        kill = lambda done, total: os.kill(os.getpid(), signal.SIGKILL) if done >= 64 else None  # noqa: E731
        prepare(Beats(count=160), name="beats", source=None, root=root, fresh=True, progress=kill)
        os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert len(list((root / NEXT / "parts").iterdir())) == 4
    steps: list[int] = []
    prepare(Beats(count=160), name="beats", source=None, root=root, progress=lambda done, total: steps.append(done))
    assert steps[0] == 64
    assert content(root) == before


@pytest.mark.parametrize("moment", range(12, 17))
@pytest.mark.parametrize("after", [False, True])
def test_a_kill_while_one_store_takes_the_place_of_another_is_gone_on_with(tmp_path: Path, moment: int, after: bool) -> None:
    root = tmp_path / "s"
    alone(root, 96)
    child = os.fork()
    if child == 0:
        _die_at(moment, after=after)
        alone(root, 64)
        os._exit(0)
    killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert killed == (moment < 16), "plan, 4 shards with rows, index, quarantine, store; then 4 to exchange"
    assert alone(root, 64) == alone(tmp_path / "alone", 64)


def _die_at(moment: int, *, after: bool) -> None:
    count, rename = iter(range(1000)), Path.replace

    def counted(self: Path, target: Path) -> Path:
        now = next(count) == moment
        if now and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        moved = rename(self, target)
        if now:
            os.kill(os.getpid(), signal.SIGKILL)
        return moved

    Path.replace = counted  # type: ignore[method-assign, assignment]


def test_the_lock_of_a_finished_store_is_free_and_says_nothing(tmp_path: Path) -> None:
    files = alone(tmp_path / "s")
    assert files[LOCK] == b""
    assert json.loads(files["store.json"])["name"] == "beats"
    assert HOLDER not in files
