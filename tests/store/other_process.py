"""A process beside the test's, forked from it: it starts at once and has imported all that the test has."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

Told = Callable[[str], None]


class OtherProcess:
    """Calls `work` with what says a line and what tells one; both are read here.

    Attributes:
        pid: the process's id.
    """

    def __init__(self, work: Callable[[Told, Told], object]) -> None:
        (said, say), (told, tell) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                work(lambda text: _write(say, text), lambda text: _write(tell, text))
                status = 0
            except BaseException as error:
                _write(tell, f"{type(error).__name__}: {error}")
            finally:
                os._exit(status)
        os.close(say)
        os.close(tell)
        self._said, self._told = os.fdopen(said), os.fdopen(told)

    def wait_for_line(self) -> str:
        """Return the next line that it says, "" if it ended."""
        return self._said.readline()

    def kill(self) -> None:
        """Kill it, whatever it does."""
        os.kill(self.pid, signal.SIGKILL)

    def end(self, seconds: float = 120) -> tuple[int, list[str], str]:
        """Return its status, the other lines that it said, and what it told, once it ended; it is killed when time is over."""
        timer = threading.Timer(seconds, self.kill)
        timer.start()
        with self._said, self._told:
            said, told = self._said.read().splitlines(), self._told.read()
        status = os.waitpid(self.pid, 0)[1]
        timer.cancel()
        return os.waitstatus_to_exitcode(status), said, told


def _write(pipe: int, text: str) -> None:
    os.write(pipe, f"{text}\n".encode())
