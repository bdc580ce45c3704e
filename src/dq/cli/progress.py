"""Progress on standard error: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import shutil
import sys
import time

from dq.board import Job
from dq.units import human_duration

REDRAW = 0.2  # seconds between two states of the bar
LINES = 30.0  # seconds between two lines where there is no terminal


class Progress:
    """How far a run is.

    Args:
        quiet: show nothing.
    """

    def __init__(self, quiet: bool) -> None:
        self.done = 0
        self._quiet = quiet
        self._bar = not quiet and sys.stderr.isatty()
        self._started = time.monotonic()
        self._shown = self._started
        self._drawn = False

    def advance(self, count: int, job: Job) -> None:
        """So many more tasks have an outcome."""
        self.done += count
        now = time.monotonic()
        if self._quiet or now - self._shown < (REDRAW if self._bar else LINES):
            return
        self._shown = now
        total = job.next + job.uncut if job.ended else None
        text = describe(self.done, total, now - self._started)
        if self._bar:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write("\r\x1b[K" + draw(self.done, total, text, width))
            sys.stderr.flush()
            self._drawn = True
        else:
            print(f"dq: {text}", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Make room for a line."""
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            self._drawn = False

    def finish(self, failed: int, late: int = 0) -> None:
        """Say how it went, where a bar was shown, something failed, or outcomes came too late: of
        tasks that were given to others meanwhile, and had theirs."""
        self.clear()
        if self._quiet or not (self._bar or failed or late):
            return
        text = f"dq: {self.done} done in {human_duration(time.monotonic() - self._started)}"
        if failed:
            text += f", {failed} failed"
        if late:
            text += f", {late} late outcome(s) dropped"
        print(text, file=sys.stderr, flush=True)


def describe(done: int, total: int | None, seconds: float) -> str:
    """Progress in words.

    >>> describe(50, 200, 10.0)
    '50 of 200, 5/s, 30s left'
    >>> describe(50, None, 10.0)
    '50 done, 5/s'
    """
    rate = done / seconds if seconds > 0 else 0.0
    shown = f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"
    if total is None:
        return f"{done} done, {shown}/s"
    left = human_duration((total - done) / rate) if rate else "?"
    return f"{done} of {total}, {shown}/s, {left} left"


def draw(done: int, total: int | None, text: str, width: int) -> str:
    """A bar with its words, in `width` columns.

    >>> draw(1, 2, "1 of 2", 18)
    '[####    ] 1 of 2'
    """
    room = min(width - len(text) - 3, 40)
    if not total or room < 5:
        return text[:width]
    room -= room % 2
    filled = room * done // total
    return f"[{'#' * filled}{' ' * (room - filled)}] {text}"
