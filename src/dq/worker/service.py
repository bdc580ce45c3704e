"""The two threads that serve a task process: a listener for its supervisor, a monitor of its
slots."""

from __future__ import annotations

import _thread
import contextlib
import os
import select
import signal
import time
from _thread import start_new_thread
from collections.abc import Callable

from dq._support import platform
from dq._support.frozen import TYPE_CHECKING, cast
from dq.worker import stacks
from dq.worker.lifeline import DRAIN

if TYPE_CHECKING:
    from dq.worker.process import Process

CHECK_INTERVAL_S = 0.1  # between two checks by the monitor


class Service:
    """Listens and monitors, in threads that `threading` does not know. gevent, for example, patches
    `threading` and must find no other thread, and tasks that count threads must not see these.

    Args:
        process: the task process.
        lifeline: descriptor of the pipe in `dq.worker.lifeline`.
    """

    def __init__(self, process: Process, lifeline: int) -> None:
        self._process = process
        self._lifeline = lifeline
        self._ending = False
        with platform.HighDescriptors():
            # Closing the writer tells the threads to end.
            self._stop_reader, self._stop_writer = os.pipe()
        self._joins = [_start_unseen(self._listen), _start_unseen(self._monitor)]

    def close(self) -> None:
        """End the threads. CPython 3.10 and 3.11 may crash if a thread returns from a wait just
        when the interpreter has ended."""
        self._ending = True
        with contextlib.suppress(OSError):
            os.close(self._stop_writer)
        for join in self._joins:
            join(1.0)

    def _listen(self) -> None:
        """Wait until the supervisor tells the process to leave, or dies."""
        lifeline = self._lifeline
        with contextlib.suppress(OSError):  # a task has closed a descriptor of dq
            while lifeline in select.select([lifeline, self._stop_reader], [], [])[0]:
                if os.read(lifeline, 1) != DRAIN:
                    os.kill(os.getpid(), signal.SIGKILL)
                self._process.drain()

    def _monitor(self) -> None:
        """Check the slots from time to time."""
        process = self._process
        while not self._is_to_end():
            stacks.answer(process.cells, process.loop.started)
            process.programs.notice_imports()
            for slot in process.slots:
                if process.leaving:  # again: it may have been reporting the last time
                    slot.partial_reports.hand_back()
                    slot.interrupt()
                else:
                    slot.partial_reports.check()

    def _is_to_end(self) -> bool:
        """Wait for `CHECK_INTERVAL_S`, and return whether the process ends."""
        try:
            woken = bool(select.select([self._stop_reader], [], [], CHECK_INTERVAL_S)[0])
        except OSError:
            woken = True
        if woken and not self._ending:  # a task has closed a descriptor of dq
            time.sleep(CHECK_INTERVAL_S)
        return self._ending


def _start_unseen(work: Callable[[], None]) -> Callable[[float], object]:
    """Start a thread that `threading` does not know; return a function that waits for its end."""
    if hasattr(_thread, "start_joinable_thread"):  # from Python 3.13 on
        handle = _thread.start_joinable_thread(work)
        return cast("Callable[[float], object]", handle.join)
    begun, ended, ids = _thread.allocate_lock(), list[_thread.LockType](), list[int]()
    begun.acquire()

    def run() -> None:
        # A lock that is released when the thread has left Python, as `threading` has it.
        ended.append(_thread._set_sentinel())  # type: ignore[attr-defined]
        ids.append(_thread.get_native_id())
        begun.release()
        work()

    def join(seconds: float) -> None:
        # A thread that begins after the interpreter has ended crashes, too: a process that has no
        # task may end before its threads have begun.
        if begun.acquire(timeout=seconds) and ended[0].acquire(timeout=seconds):
            platform.await_thread(ids[0], "")

    start_new_thread(run, ())
    return join
