"""Process groups: a task process and what it has started, unless that has gone elsewhere."""

from __future__ import annotations

import contextlib
import os
import signal
import time

EXIT_S = 0.5  # that what a process has started has to end after it
POLL_INTERVAL_S = 0.001


class LeftGroups:
    """What processes that have left had started: killed, but not at once, because
    multiprocessing's resource tracker cleans up after its process."""

    def __init__(self) -> None:
        self._groups: list[tuple[int, float]] = []  # and until when each has time

    def add(self, pid: int) -> None:
        """A process has left."""
        self._groups.append((pid, time.monotonic() + EXIT_S))

    def hurry(self) -> None:
        """Give none of them more time."""
        self._groups = [(pid, 0.0) for pid, _ in self._groups]

    def kill_due(self, now: float) -> None:
        """Kill those whose time is up."""
        for pid, until in list(self._groups):
            if now > until:
                kill(pid)
            if now > until or not _exists(pid):
                self._groups.remove((pid, until))

    def join(self) -> None:
        """Wait until all have ended, or been killed."""
        while self._groups:
            self.kill_due(time.monotonic())
            time.sleep(POLL_INTERVAL_S if self._groups else 0)


def kill(pid: int) -> None:
    """Kill a process and what it has started."""
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)


def _exists(pid: int) -> bool:
    """Whether a process group has a process left."""
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's, by now
        return False
    return True
