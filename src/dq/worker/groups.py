"""Process groups: a task process and its children, except those that have left the group."""

from __future__ import annotations

import contextlib
import os
import signal
import time

EXIT_S = 0.5  # for children to end after their task process
POLL_INTERVAL_S = 0.001


class LeftGroups:
    """Process groups of task processes that have left. They are killed after a delay, because
    multiprocessing's resource tracker still cleans up after its process."""

    def __init__(self) -> None:
        self._groups: list[tuple[int, float]] = []  # each with its deadline

    def add(self, pid: int, until: float | None = None) -> None:
        """Add the group of a process that has left. It is killed at the time `until`."""
        self._groups.append((pid, time.monotonic() + EXIT_S if until is None else until))

    def hurry(self) -> None:
        """Make all of them due now."""
        self._groups = [(pid, 0.0) for pid, _ in self._groups]

    def kill_due(self, now: float) -> None:
        """Kill those whose time is up."""
        for pid, until in list(self._groups):
            if now > until:
                kill(pid)
            if now > until or not _exists(pid):
                self._groups.remove((pid, until))

    def join(self) -> None:
        """Wait until all have ended or been killed."""
        while self._groups:
            self.kill_due(time.monotonic())
            time.sleep(POLL_INTERVAL_S if self._groups else 0)


def terminate(pid: int) -> None:
    """Ask all processes of a group to end."""
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGTERM)


def kill(pid: int) -> None:
    """Kill a process group."""
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)


def _exists(pid: int) -> bool:
    """Whether a process group has a process left."""
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # the id now belongs to somebody else's group
        return False
    return True
