"""The threads that serve a task process end before it does, even if they have hardly begun."""

from __future__ import annotations

import sys
import threading
import time
from _thread import start_new_thread
from collections.abc import Callable

import pytest

from dq.worker import service


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="CPython joins such threads itself there")
def test_a_thread_that_begins_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    may_begin = threading.Event()

    def late(function: Callable[..., object], args: tuple[object, ...]) -> int:
        return start_new_thread(lambda: (may_begin.wait(10), function(*args)), ())

    monkeypatch.setattr(service, "start_new_thread", late)
    done: list[int] = []
    join = service._start_unseen(lambda: done.append(1))
    threading.Timer(0.2, may_begin.set).start()
    join(10.0)
    assert done == [1]


def test_waiting_for_a_thread_takes_no_longer_than_it_may() -> None:
    stop, stopped = threading.Event(), threading.Event()
    join = service._start_unseen(lambda: (stop.wait(10), stopped.set()))
    since = time.monotonic()
    join(0.05)
    assert time.monotonic() - since < 5
    stop.set()
    assert stopped.wait(10)
