"""A process of a fork server, as its supervisor's threads see it."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dq.worker.fork_client import ForkedProcess
from dq.worker.fork_messages import PID, STATUS
from support import wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork there")


class Watched:
    """A lock that says when a thread is about to take it, and lets it do so when it is told."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self.is_wanted, self.may_be_taken = threading.Event(), threading.Event()

    def __enter__(self) -> None:
        self.is_wanted.set()
        assert self.may_be_taken.wait(10)
        self._lock.acquire()

    def __exit__(self, *exc: object) -> None:
        self._lock.release()


def test_who_wants_its_pid_does_not_wait_for_its_end() -> None:
    (reader, writer), (stdin, other) = os.pipe(), os.pipe()
    process = ForkedProcess(reader, other)
    before = process._pid_lock
    watched = process._pid_lock = Watched(before)  # type: ignore[assignment]
    with ThreadPoolExecutor(2) as threads:
        late = threads.submit(lambda: process.pid)  # sees that it is not known yet
        assert watched.is_wanted.wait(10)
        process._pid_lock = before
        os.write(writer, PID.pack(42))
        assert process.pid == 42
        ended = threads.submit(process.wait)
        wait_until(process._status_lock.locked)
        watched.may_be_taken.set()
        try:
            assert late.result(10) == 42
        finally:
            os.write(writer, STATUS.pack(0))
        assert ended.result(10) == 0
    process.stdin.close()
    for descriptor in (writer, stdin):
        os.close(descriptor)
