"""The stages of Ctrl-C. The first lets running tasks finish, and the second ends the run now. A
third ends the process without a message. Closing the terminal (SIGHUP) has the effect of the
second, because nobody is there to wait.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from dq.errors import Interrupted, Stopped

FINISHING = "finishing running tasks; once more to leave now"
HANGUP: int | None = getattr(signal, "SIGHUP", None)  # missing on Windows


def endings() -> list[int]:
    """The signals other than SIGINT that end a run."""
    if HANGUP is None or signal.getsignal(HANGUP) is signal.SIG_IGN:  # as under nohup
        return [signal.SIGTERM]
    return [signal.SIGTERM, HANGUP]


class Terminated(KeyboardInterrupt):
    """Raised in the main thread by a signal other than SIGINT that ends a command."""


def _terminate(number: int, frame: FrameType | None) -> None:
    for one in endings():  # a second one, as `timeout` sends it, must not cut off the message
        signal.signal(one, signal.SIG_IGN)
    raise Terminated


def ended_by(signal: KeyboardInterrupt, message: str) -> Interrupted | Stopped:
    """The error of a command that a signal has ended, whose exit code says which kind."""
    return (Stopped if isinstance(signal, Terminated) else Interrupted)(message)


@contextlib.contextmanager
def ending_is_interrupting() -> Iterator[None]:
    """Have the other signals raise `Terminated` in a block, as SIGINT raises KeyboardInterrupt."""
    before = {number: signal.signal(number, _terminate) for number in endings()}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is _terminate:
                signal.signal(number, handler)


def _nothing() -> None:
    pass


class Stages:
    """Counts SIGINT, SIGTERM and SIGHUP while entered. The run sets what they do.

    `on_first` and `on_second` run outside the handler, in a thread, so that they may take locks.
    """

    def __init__(self) -> None:
        self.count = 0
        self.interrupted = False  # by SIGINT rather than SIGTERM
        self.on_first: Callable[[], None] = _nothing
        self.on_second: Callable[[], None] = _nothing
        self._before: dict[int, object] = {}

    def __enter__(self) -> Stages:
        if threading.current_thread() is threading.main_thread():
            for number in self._numbers():
                self._before[number] = signal.signal(number, self._handle)
        return self

    def _numbers(self) -> list[int]:
        return [signal.SIGINT, *endings()]

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() returned

    def act(self, first: Callable[[], None], second: Callable[[], None]) -> None:
        """Set what the signals do, and do it for those that have come before."""
        self.on_first, self.on_second = first, second
        if self.count:
            (first if self.count == 1 else second)()

    def wait(self, seconds: float) -> None:
        """Sleep until the time is up or a signal arrives."""
        until = time.monotonic() + seconds
        before = self.count
        while self.count == before and time.monotonic() < until:
            time.sleep(min(0.05, seconds))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == HANGUP:
            if self.count >= 2:  # the kernel sends one, and the shell sends another
                return
            self.count = 1
        self.count += 1
        self.interrupted = number == signal.SIGINT
        if self.count > 2:  # something blocks the end, perhaps a reader of the results
            os._exit(Interrupted.exit_code if self.interrupted else Stopped.exit_code)
        step = self.on_first if self.count == 1 else self.on_second
        threading.Thread(target=step, daemon=True).start()


class Interrupting(Stages):
    """The same where tasks run in the main thread: the first signal raises KeyboardInterrupt in the
    code of the task, and the run ends. A debugger that handles SIGINT goes on to do so.

    Args:
        interrupt: called in the handler: raises KeyboardInterrupt where it may.
    """

    def __init__(self, interrupt: Callable[[], None]) -> None:
        super().__init__()
        self._interrupt = interrupt

    def _numbers(self) -> list[int]:
        handler = signal.getsignal(signal.SIGINT)
        is_debuggers = callable(handler) and handler is not signal.default_int_handler
        return endings() if is_debuggers else super()._numbers()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        super()._handle(number, frame)
        self._interrupt()
