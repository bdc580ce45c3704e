"""Ends a task process within its grace period."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading
import time
from _thread import get_native_id, start_new_thread

from dq._support import platform
from dq._support.naming import setting


def leave_within(code: int, grace: float) -> None:
    """End the process with `code` after `grace` seconds, if it has not ended by then."""
    with contextlib.suppress(RuntimeError):  # no thread left: the supervisor ends the process
        begun, ids = threading.Lock(), list[int]()
        begun.acquire()
        start_new_thread(_leave_in_time, (code, grace, begun, ids))
        # CPython may crash if a thread starts after the interpreter has ended.
        begun.acquire()
        platform.await_thread(ids[0], "S", "")


def _leave_in_time(code: int, grace: float, begun: threading.Lock, ids: list[int]) -> None:
    """End the process if it has not ended by itself, and say what it was waiting for."""
    ids.append(get_native_id())
    begun.release()
    time.sleep(grace)
    with contextlib.suppress(BaseException):  # a task may have changed anything that this uses
        print(
            f"dq: task process {os.getpid()} has waited {grace:g} s at its end for {_left()};"
            f" it ends without that ({setting('grace')})",
            file=sys.stderr,
            flush=True,
        )
    os._exit(code)


def _left() -> str:
    """What keeps this process from ending."""
    threads = [
        f"the thread {thread.name!r}"
        for thread in threading.enumerate()
        if not thread.daemon and thread is not threading.main_thread()
    ]
    children = [f"the process {child.pid}" for child in multiprocessing.active_children()]
    # An exiting interpreter waits for threads first. Then multiprocessing waits for its processes.
    return ", ".join(threads or children) or "what is registered with atexit"
