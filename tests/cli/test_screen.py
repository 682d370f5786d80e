"""What a terminal of 80 and of 40 columns shows while a method is pretrained, and what a cluster's log gets."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from melp_bench.cli import _run
from melp_bench.cli.options import QUIET
from melp_bench.cli.screen import Bars, Screen, _bar, _columns
from melp_bench.progress import StepValues, drawn_by

TRAINED = StepValues(
    "alignment",
    "train",
    130,
    650,
    {"rhythm": 1.234, "beat": 2.345, "token": 3.456},
    8.9,
    learning_rate=1e-3,
    gradient_norm=0.87,
    records_per_second=412.4,
    waiting=0.034,
)
TOLD = ["130/650", "loss 8.90 (rhythm 1.23 beat 2.35 token 3.46)", "412 rec/s", "waiting 3%", "rate 1.0e-03", "gradient 0.87"]


class Clock:
    """Time as a test sets it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("width", [80, 40])
def test_a_terminal_shows_terms_rate_gradient_speed_waiting_and_time_left_in_its_width(width: int) -> None:
    text, clock = io.StringIO(), Clock()
    console = Console(file=text, width=width, force_terminal=True, color_system=None, legacy_windows=False)
    bars = Bars(*_columns(width), console=console, get_time=clock, auto_refresh=False)
    show = drawn_by(_bar(bars, "pretrain melp alignment", "steps"))
    show(StepValues("alignment", "begin", 0, 650, {}, 0.0))
    show(StepValues("alignment", "validation", 0, 650, {"rhythm": 3.2}, 9.876))
    for task in bars.tasks:
        task.start_time = 0.0
    for second in range(1, 14):
        clock.now = float(second)
        show(StepValues("alignment", "train", 10 * second, 650, {"rhythm": 1.0}, 1.0))
    show(TRAINED)
    console.print(bars.get_renderable())
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) <= 6
    assert any(line.strip().startswith("rate 1.0e-03") or "· rate 1.0e-03" in line for line in lines), "broken between parts"
    joined = " ".join(" ".join(lines).split())
    for told in [*TOLD, "validation 9.876", "pretrain melp"]:
        assert told in joined, told
    assert "0:52" in joined, "520 steps at 10 a second are left"


def test_without_a_terminal_a_line_is_told_every_minute_and_when_the_stage_is_over() -> None:
    text, clock = io.StringIO(), Clock()
    screen = Screen(Console(file=text, width=80, force_terminal=False), clock=clock)
    with screen.stage("pretrain melp", "steps") as advance:
        show = drawn_by(advance)
        for step in range(301):
            clock.now = 0.5 * step  # 150 seconds
            show(StepValues("alignment", "train", step, 300, {"rhythm": 1.5}, 1.5, records_per_second=48.0))
    lines = text.getvalue().splitlines()
    assert [line.split()[2] for line in lines] == ["120/300", "240/300", "300/300"]
    assert "2.0 steps/s  0:01:30 left  loss 1.50 (rhythm 1.50)" in lines[0]
    assert "2.0 steps/s  0:02:30  loss" in lines[2]


def test_what_an_earlier_run_has_done_counts_for_no_speed() -> None:
    text, clock = io.StringIO(), Clock()
    screen = Screen(Console(file=text, force_terminal=False), clock=clock)
    with screen.stage("pretrain melp", "steps") as advance:
        advance(900, 1000, "")
        clock.now = 60.0
        advance(930, 1000, "")
    assert "930/1,000  0.5 steps/s  0:02:20 left" in text.getvalue().splitlines()[0]


def test_without_a_terminal_a_line_comes_though_nothing_is_done() -> None:
    text = io.StringIO()
    screen = Screen(Console(file=text, width=80, force_terminal=False), seconds=0.04)
    with screen.stage("evaluate", "rows") as advance:
        advance(3, 20, "melp linear probe")
        time.sleep(0.3)
    lines = text.getvalue().splitlines()
    assert len(lines) >= 3
    assert all(line.startswith("evaluate             3/20") and "melp linear probe" in line for line in lines)
    assert "gone)" in lines[0]
    assert "gone)" not in lines[-1]


def test_a_stage_that_never_begins_leaves_no_line() -> None:
    text = io.StringIO()
    with Screen(Console(file=text, force_terminal=False), seconds=0.02).stage("evaluate", "rows"):
        time.sleep(0.1)
    assert text.getvalue() == ""


@pytest.mark.parametrize("is_terminal", [True, False])
def test_quiet_is_no_progress_but_what_must_be_told(is_terminal: bool) -> None:
    text = io.StringIO()
    screen = Screen(Console(file=text, force_terminal=is_terminal), seconds=0.02, quiet=True)
    with screen.stage("evaluate", "rows") as advance:
        advance(1, 2, "melp")
        time.sleep(0.1)
    assert text.getvalue() == ""
    screen.say("a damaged row is left out")
    assert "damaged" in text.getvalue()


def test_quiet_is_understood_before_and_after_the_command() -> None:
    for words in (["--quiet", "list"], ["list", "--quiet"]):
        QUIET.set(False)
        assert _run(words, verbose=False) == 0
        assert QUIET.get()
    assert _run(["list"], verbose=False) == 0
    assert not QUIET.get()
