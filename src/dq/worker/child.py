"""A task process, as its supervisor sees it."""

from __future__ import annotations

import os
import socket
import subprocess
import threading

from dq._support import platform
from dq.worker import cells, lifeline
from dq.worker.cells import PROCESS_CELLS
from dq.worker.fork_client import ForkedProcess


class Child:
    """One task process.

    Attributes:
        number: its number among the supervisor's processes, from 0; a replacement keeps the number.
        kill_reason: why the supervisor killed it; "" if it did not.
        is_charged: whether the task that is to blame for its end, if any, has been charged already.
        kill_at: when to kill it if it has not ended by itself; 0 for never.
        exiting_since: when it was first seen to be exiting; 0 before that.
    """

    def __init__(
        self,
        popen: subprocess.Popen[bytes] | ForkedProcess,
        cells: platform.Cells,
        number: int,
    ) -> None:
        self.popen = popen
        self.cells = cells
        self.number = number
        self.kill_reason = ""
        self.is_charged = False
        self.kill_at = 0.0
        self.exiting_since = 0.0
        self._lock = threading.Lock()  # guards the flags below, and later writes to the pipe
        self._has_config = False
        self._draining = False
        self._sending = False
        self._closed = False

    @property
    def pid(self) -> int:
        """Its pid.

        Raises:
            DqError: the system has no room for it.
        """
        return self.popen.pid

    @property
    def name(self) -> str:
        """``host:pid``, as its connections are called."""
        return f"{socket.gethostname()}:{self.pid}"

    @property
    def state(self) -> int:
        """Its current state; see `dq.worker.cells`."""
        return self.cells.view[cells.STATE]

    def slot_views(self, threads: int) -> list[memoryview]:
        """Each slot's cells."""
        return cells.slot_views(self.cells, threads)

    def peek(self, *cells: int) -> list[int]:
        """What cells of its first slot hold; zeros once it has been closed. In any thread."""
        with self._lock:
            if self._closed:
                return [0] * len(cells)
            return [self.cells.view[PROCESS_CELLS + cell] for cell in cells]

    def ask(self, number: int, threads: int) -> str:
        """Ask it where its threads are, in any thread. Returns why it cannot answer; "" if it can.

        Args:
            number: of the request.
            threads: how many slots it has.
        """
        with self._lock:
            if self._closed or self.state not in (cells.CONNECTED, cells.LOADING, cells.LOADED):
                return "it is being started, or ends"
            if len(self.cells.view) == cells.count(threads):
                return "it has no room to answer (ulimit -f)"
            self.cells.view[cells.ASKED] = number
            return ""

    def answer(self, number: int) -> bytes | None:
        """Its answer to a request, in any thread; None if there is none."""
        with self._lock:
            if self._closed or self.cells.view[cells.ANSWERED] != number:
                return None
            return cells.read_stacks(self.cells)

    def send_config(self, config: bytes) -> None:
        """Send its configuration. Call this in a thread that may wait for the process to start."""
        assert self.popen.stdin is not None
        with self._lock:
            if self._closed:
                return
            # Keep the pipe open meanwhile, or another file could get its descriptor. Duplicating it
            # is no alternative, because there may be no descriptor left.
            self._sending = True
        pipe = self.popen.stdin.fileno()
        try:
            lifeline.send(pipe, config)
            with self._lock:
                self._has_config = True
                if self._draining:
                    os.write(pipe, lifeline.DRAIN)
        except OSError:
            pass  # it has died: the thread that waits for it reports that
        finally:
            with self._lock:
                self._sending = False
                if self._closed:
                    self.popen.stdin.close()

    def drain(self) -> None:
        """Tell it to leave once it has its configuration. This never blocks."""
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
        """In a fork of the supervisor's process: close the pipe and the cells. Only the original
        can wait for the child."""
        assert self.popen.stdin is not None
        self.popen.returncode = 0
        self.cells.close()
        self.popen.stdin.close()  # without the lock: a thread missing in the fork may hold it

    def close(self) -> None:
        """Release the pipe and the cells of a process that has ended."""
        assert self.popen.stdin is not None
        with self._lock:
            self._closed = True
            self.cells.close()
            if not self._sending:
                self.popen.stdin.close()


def dismiss(children: list[Child]) -> None:
    """Close the standard input of processes that got no configuration, so that they end."""
    for child in children:
        if child.popen.stdin is not None:
            child.popen.stdin.close()
    while children:
        child = children.pop()
        child.popen.wait()
        child.close()
