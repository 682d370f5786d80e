"""Two processes that prepare into one folder: one makes the store, the other waits and takes it, whatever happens to either."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_waves import Beats, content

from melp_bench.errors import UserError
from melp_bench.locks import HOLDER, LOCK
from melp_bench.records import BadRecord, RecordInfo, Signal
from melp_bench.store import open_store, prepare, verify
from melp_bench.store.exchange import NEXT

HERE = Path(__file__).parent
SCRIPT = """
import sys, time
sys.path.insert(0, {here!r})
from pathlib import Path
from made_waves import Beats
from melp_bench.store import prepare

def progress(done, total):
    sys.stdout.write(str(done) + "\\n")
    sys.stdout.flush()
    time.sleep({pause})

told = lambda text: sys.stderr.write(text + "\\n")
root, workers = Path({root!r}), {workers}
store = prepare(Beats(count={count}), name="beats", source=None, root=root, progress=progress, tell=told, workers=workers)
sys.stderr.write("made " + str(len(store)))
"""


def begun(root: Path, *, count: int = 160, pause: float = 0.0, workers: int = 1) -> subprocess.Popen[str]:
    """Start a process that prepares `count` records into `root`, with a pause after each shard."""
    code = SCRIPT.format(here=str(HERE), root=str(root), count=count, pause=pause, workers=workers)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def alone(root: Path, count: int = 160) -> dict[str, bytes]:
    return content(prepare(Beats(count=count), name="beats", source=None, root=root).root)


@pytest.mark.parametrize("workers", [1, 2])
def test_two_at_once_make_one_whole_store(tmp_path: Path, workers: int) -> None:
    root = tmp_path / "both"
    first, second = (begun(root, workers=workers, pause=0.02) for _ in range(2))
    ends = [process.communicate(timeout=120) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], ends
    assert content(root) == alone(tmp_path / "alone")
    assert verify(open_store(root)).problems == ()
    shards = sum(out.count("\n") > 1 for out, _ in ends)
    assert shards == 1, "only one of them has packed records"


def test_who_waits_says_for_whom(tmp_path: Path) -> None:
    root = tmp_path / "s"
    first = begun(root, pause=0.3)
    first.stdout.readline()  # it is at work
    second = begun(root)
    _, told = second.communicate(timeout=120)
    first.communicate(timeout=120)
    assert f"waiting for process {first.pid} on " in told
    assert "which is preparing 'beats' since " in told
    assert second.returncode == first.returncode == 0


def test_a_store_of_other_records_is_made_after_the_first_and_not_into_it(tmp_path: Path) -> None:
    root = tmp_path / "s"
    first = begun(root, count=160, pause=0.05)
    first.stdout.readline()
    second = begun(root, count=96)
    _, told = second.communicate(timeout=120)
    first.communicate(timeout=120)
    assert first.returncode == second.returncode == 0
    assert "waiting for process" in told
    assert content(root) == alone(tmp_path / "alone", 96)


def test_kill_9_of_the_one_that_holds_the_lock_lets_the_next_go_on(tmp_path: Path) -> None:
    root = tmp_path / "s"
    first = begun(root, pause=0.3)
    for _ in range(3):
        first.stdout.readline()
    second = begun(root)
    time.sleep(1.0)  # it waits by now, or is about to
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)
    out, told = second.communicate(timeout=120)
    assert second.returncode == 0, told
    assert int(out.splitlines()[0]) >= 32, "it goes on after the shards of the first"
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
