"""The two stages of Ctrl-C: the first lets running tasks finish, the second leaves now; a third
does not even say so. A terminal that is closed (SIGHUP) means the second: nobody is there to wait.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from dq.errors import Interrupted, Stopped

FINISHING = "finishing running tasks; once more to leave now"
HANGUP: int | None = getattr(signal, "SIGHUP", None)  # missing on Windows


def endings() -> list[int]:
    """The signals besides Ctrl-C's that end a run."""
    if HANGUP is None or signal.getsignal(HANGUP) is signal.SIG_IGN:  # as under nohup
        return [signal.SIGTERM]
    return [signal.SIGTERM, HANGUP]


def _nothing() -> None:
    pass


class Stages:
    """Counts SIGINT, SIGTERM and SIGHUP while entered; what they do is set by whoever runs.

    `on_first` and `on_second` run outside the handler, in a thread, so that they may take locks.
    """

    def __init__(self) -> None:
        self.count = 0
        self.interrupted = False  # by SIGINT, rather than told to end by SIGTERM
        self.on_first: Callable[[], None] = _nothing
        self.on_second: Callable[[], None] = _nothing
        self._before: dict[int, object] = {}

    def __enter__(self) -> Stages:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *endings()):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() returned

    def wait(self, seconds: float) -> None:
        """Sleep, but not on after a signal."""
        until = time.monotonic() + seconds
        before = self.count
        while self.count == before and time.monotonic() < until:
            time.sleep(min(0.05, seconds))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == HANGUP:
            if self.count >= 2:  # the kernel sends one, and the shell another
                return
            self.count = 1
        self.count += 1
        self.interrupted = number == signal.SIGINT
        if self.count > 2:  # something does not let go, a reader of the results perhaps
            os._exit(Interrupted.exit_code if self.interrupted else Stopped.exit_code)
        step = self.on_first if self.count == 1 else self.on_second
        threading.Thread(target=step, daemon=True).start()
