"""A task process, as its supervisor has it."""

from __future__ import annotations

import os
import subprocess
import threading

from dq._support import platform
from dq.worker import cells, lifeline


class Child:
    """One task process.

    Attributes:
        number: which of its supervisor's it is, from 0; that of one that it replaces.
        kill_reason: why the supervisor has killed it; "" where it has not.
        timed_out: whether a task of its was too long; that one is charged then, and no other.
        exiting_since: when it was first seen to have no more to do; 0 before.
    """

    def __init__(self, popen: subprocess.Popen[bytes], cells: platform.Cells, number: int) -> None:
        self.popen = popen
        self.pid = popen.pid
        self.cells = cells
        self.number = number
        self.kill_reason = ""
        self.timed_out = False
        self.exiting_since = 0.0
        self._lock = threading.Lock()  # guards those below, and what is written after the config
        self._has_config = False
        self._draining = False
        self._sending = False
        self._closed = False

    @property
    def state(self) -> int:
        """How far it has come; see `dq.worker.cells`."""
        return self.cells.view[cells.STATE]

    def slot_views(self, threads: int) -> list[memoryview]:
        """Each slot's cells."""
        return cells.slot_views(self.cells, threads)

    def send_config(self, config: bytes) -> None:
        """Send what it is to do, in a thread that may wait until the process has started."""
        assert self.popen.stdin is not None
        with self._lock:
            if self._closed:
                return
            # The pipe stays open meanwhile: its number might become another file's. A copy of it
            # would need a descriptor, of which there may be none left.
            self._sending = True
        pipe = self.popen.stdin.fileno()
        try:
            lifeline.send(pipe, config)
            with self._lock:
                self._has_config = True
                if self._draining:
                    os.write(pipe, lifeline.DRAIN)
        except OSError:
            pass  # it has died: who waits for it will say so
        finally:
            with self._lock:
                self._sending = False
                if self._closed:
                    self.popen.stdin.close()

    def drain(self) -> None:
        """Have it leave once it has its configuration; never waits."""
        assert self.popen.stdin is not None
        self.cells.view[cells.LEAVING] = 1
        with self._lock:
            self._draining = True
            if self._has_config:
                try:
                    os.write(self.popen.stdin.fileno(), lifeline.DRAIN)
                except OSError:
                    pass  # it has died

    def after_fork(self) -> None:
        """Close what a fork of this process's parent has of it: the parent alone can wait for
        it."""
        assert self.popen.stdin is not None
        self.popen.returncode = 0
        self.cells.close()
        self.popen.stdin.close()  # without the lock, which a thread may have that is not here

    def close(self) -> None:
        """Give back what it had of this process; it has ended."""
        assert self.popen.stdin is not None
        self.cells.close()
        with self._lock:
            self._closed = True
            if not self._sending:
                self.popen.stdin.close()


def dismiss(children: list[Child]) -> None:
    """Let processes go that were given no configuration: they end with their standard input."""
    for child in children:
        if child.popen.stdin is not None:
            child.popen.stdin.close()
    while children:
        child = children.pop()
        child.popen.wait()
        child.close()
