"""Coordinates what is written to standard error: lines, a progress bar, and the output of tasks.

The bar is on the last line. Every writer erases it first and draws it again afterwards, under one
lock. The output of local tasks therefore comes through a pipe (`Forwarder`). If tasks wrote to the
terminal directly, their output would appear behind the bar.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

ERASE = "\r\x1b[K"
MARGIN = 5  # columns that a bar leaves free, so that two ^C fit, which the terminal echoes
TICK = 0.1  # seconds between two checks of the bar
REDRAW = 0.2  # seconds between two updates of the bar
AT_ONCE = 0.05  # seconds after drawing the bar, from which on it is drawn again at once
PARTIAL = 2.0  # seconds that an incomplete line waits for its end
CHUNK = 1 << 16
AT_MOST = 16  # chunks of one pipe before the other pipes have their turn


class Screen:
    """Standard error, with or without a bar."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._bar: Callable[[int], str] | None = None  # makes its text for a number of columns
        self._is_drawn = False
        self._drawn_at = 0.0
        self._width = 0  # of the text that was drawn

    def show(self, bar: Callable[[int], str]) -> None:
        """Show a bar from now on; it is drawn again by `tick`."""
        with self._lock:
            self._bar = bar
            self._draw()

    def hide(self) -> None:
        """Remove the bar."""
        with self._lock:
            self._erase()
            self._bar = None

    def tick(self) -> None:
        """Draw the bar if that is due."""
        with self._lock:
            if not self._is_drawn or time.monotonic() - self._drawn_at >= REDRAW:
                self._draw()

    @contextlib.contextmanager
    def room(self) -> Iterator[None]:
        """Hold the terminal for the block, with the bar erased."""
        with self._lock:
            self._erase()
            yield
            if time.monotonic() - self._drawn_at >= AT_ONCE:
                self._draw()

    def say(self, line: str) -> None:
        """Write one line, and never fail."""
        with self.room(), contextlib.suppress(OSError, ValueError):
            if sys.stderr is not None:  # otherwise print() would use standard output
                print(line, file=sys.stderr, flush=True)

    def write(self, data: bytes) -> None:
        """Write whole lines as they are, and never fail."""
        with self.room(), contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
            if hasattr(sys.stderr, "buffer"):
                sys.stderr.buffer.write(data)
            else:  # in a notebook
                sys.stderr.write(data.decode(errors="backslashreplace"))
            sys.stderr.flush()

    def _draw(self) -> None:
        if self._bar is None or not _is_in_foreground():
            return
        text = self._bar(max(columns() - MARGIN, 10))
        self._put(self._eraser() + text)
        self._is_drawn, self._width = True, len(text)
        self._drawn_at = time.monotonic()

    def _erase(self) -> None:
        if self._is_drawn:
            self._put(self._eraser())
            self._is_drawn = False

    def _eraser(self) -> str:
        """The text that erases the bar. Notebooks do not support the escape sequence."""
        return f"\r{' ' * self._width}\r" if _is_notebook() else ERASE

    def _put(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal has been closed
            sys.stderr.write(text)
            sys.stderr.flush()


screen = Screen()


def takes_bar() -> bool:
    """Whether standard error can show a bar to a person: it is a terminal on which a line can be
    erased, or a notebook."""
    if _is_notebook():
        return True
    if sys.stderr is None or not sys.stderr.isatty():
        return False
    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    return not in_ci and os.environ.get("TERM") != "dumb"


def _is_notebook() -> bool:
    return type(sys.stderr).__module__.partition(".")[0] == "ipykernel"


def columns() -> int:
    """The current width of the terminal. `shutil` cannot tell, because it asks standard output."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if found := os.get_terminal_size(sys.stderr.fileno()).columns:
            return found
    with contextlib.suppress(KeyError, ValueError):
        return int(os.environ["COLUMNS"])
    return 80


def _is_in_foreground() -> bool:
    """Whether this process is in the foreground of its terminal."""
    try:
        return os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):  # no terminal, or no job control
        return True


class Forwarder:
    """Pipes for the standard error of task processes, forwarded to the screen line by line. Each
    process has its own pipe: in a shared one, long lines of several processes would be mixed."""

    def __init__(self) -> None:
        self._wake, self._waker = os.pipe()
        self._opened: deque[_Source] = deque()  # new pipes that the thread has not registered yet
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="dq-forwarder", daemon=True)
        self._thread.start()

    def open(self) -> int:
        """A descriptor for one process to write to; the caller closes it."""
        descriptor, other = os.pipe()
        os.set_blocking(descriptor, False)
        self._opened.append(_Source(descriptor))
        os.write(self._waker, b".")
        return other

    def close(self) -> None:
        """Forward what has been written so far, and stop. Do not wait for the end of each pipe,
        because a program that a task has left running may keep the pipe open."""
        if self._closed:
            return
        self._closed = True
        os.close(self._waker)
        self._thread.join()
        os.close(self._wake)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        sources: dict[int, _Source] = {}
        closing = False
        while not closing:
            is_partial = any(source.rest for source in sources.values())
            ready = dict(poll.poll(1000 * TICK if is_partial else None))
            closing = self._wake in ready and not os.read(self._wake, CHUNK)
            while self._opened:
                source = self._opened.popleft()
                sources[source.descriptor] = source
                poll.register(source.descriptor, select.POLLIN)
            for source in list(sources.values()):
                if closing or source.descriptor in ready:
                    source.forward()
                source.end_line(PARTIAL if not (closing or source.ended) else 0.0)
                if closing or source.ended:
                    poll.unregister(source.descriptor)
                    os.close(source.descriptor)
                    del sources[source.descriptor]


class _Source:
    """The reading end of a pipe."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.ended = False
        self.rest = b""  # the beginning of an incomplete line
        self._since = 0.0  # when it arrived

    def forward(self) -> None:
        """Show what there is now, but no more than a pipe holds, so that no pipe delays the
        others."""
        for _ in range(AT_MOST):
            try:
                data = os.read(self.descriptor, CHUNK)
            except BlockingIOError:
                return
            if not data:
                self.ended = True
                return
            self._take(data)

    def end_line(self, patience: float) -> None:
        """Show an incomplete line that has waited for its end for `patience` seconds."""
        if self.rest and time.monotonic() - self._since >= patience:
            screen.write(self.rest + b"\n")
            self.rest = b""

    def _take(self, data: bytes) -> None:
        """Show all complete lines. A very long line is shown in pieces."""
        whole, newline, rest = data.rpartition(b"\n")
        if newline:
            screen.write(self.rest + whole + newline)
            self.rest, self._since = b"", time.monotonic()
        if not self.rest:
            self._since = time.monotonic()
        self.rest += rest
        if len(self.rest) > CHUNK:
            self.end_line(0.0)


def forwarder_beside_bar(*, quiet: bool) -> Forwarder | None:
    """A forwarder, if a bar is shown and the system supports it; otherwise None, and tasks write to
    standard error directly."""
    if quiet or not takes_bar() or not hasattr(select, "poll"):
        return None
    try:
        return Forwarder()
    except OSError:  # for example, there are no more descriptors
        return None
