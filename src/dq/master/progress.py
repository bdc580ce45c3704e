"""Progress of a run: a bar on a terminal, regular lines elsewhere, or a user's function."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from dq._support.quantities import human_duration
from dq._support.screen import TICK, screen, takes_bar
from dq.core.records import Failed, Recorded
from dq.errors import UsageError

LINE_INTERVAL_S = 30.0  # between two lines, if there is no terminal
MAX_BAR_WIDTH = 30  # columns

# Called with the number of tasks done, the total if it is known, and the number that failed.
Report = Callable[[int, "int | None", int], object]


class Progress:
    """Counts outcomes, and shows the progress from `start` to `finish`.

    Args:
        total: returns how many inputs there are; None if that is not known.
        quiet: show nothing.
        report: called instead of showing anything.
        asked: whether the user asked for progress; the summary is then always shown.
        known: about how many of the first tasks had an outcome when the run began.
        live: whether to show it before the end, where a debugger's prompt may be on the terminal.
    """

    def __init__(
        self,
        total: Callable[[], int | None],
        *,
        quiet: bool = False,
        report: Report | None = None,
        asked: bool = False,
        known: int = 0,
        live: bool = True,
    ) -> None:
        self.done = 0
        self.failed = 0
        self.skipped = 0
        self._known = known
        self._replayed = 0  # outcomes that came from the journal
        self._since: int | None = None  # outcomes when somebody else's figures were first shown
        self._total = total
        self._asked = asked
        self._report = report
        self._quiet = quiet
        self._live = live
        self.has_bar = not quiet and report is None and takes_bar()
        self._started = self._said = self._last = time.monotonic()
        self._ended = False
        self._stopped = threading.Event()  # wakes the ticker, so that a run ends without delay
        self._ticker: threading.Thread | None = None

    @property
    def count(self) -> int:
        """How many inputs have an outcome."""
        return self.done + self.failed + self.skipped

    def start(self) -> None:
        """Start to show progress."""
        self._started = self._said = self._last = time.monotonic()
        if self._report is not None:
            self._report(0, self._known_total(), 0)
        if self._quiet or self._report is not None or not self._live:
            return
        if self.has_bar:
            screen.show(self._bar)
        ticker = threading.Thread(target=self._tick, name="dq-progress", daemon=True)
        ticker.start()
        self._ticker = ticker  # only now: Ctrl-C may come in between, and `stop` joins it

    def take(self, records: Sequence[Recorded]) -> None:
        """Count the outcomes that have arrived."""
        self._last = time.monotonic()
        for record in records:
            if not isinstance(record.outcome, Failed):
                self.done += record.batch.count
            elif record.outcome.is_unreadable:
                self.skipped += 1
            else:
                self.failed += 1
            if record.batch.start < self._known:
                self._replayed += record.batch.count
        if self._report is not None:
            self._report(self.done, self._known_total(), self.failed)

    def show(self, done: int, failed: int) -> None:
        """Take over the figures of a job that somebody else counts. The first ones are those of
        before this began."""
        if self._since is None:
            self._since = self._replayed = done + failed
        elif done + failed > self.count:
            self._last = time.monotonic()
        self.done, self.failed = done, failed

    def finish(self, late: int = 0) -> None:
        """Stop, and print a summary if a bar was shown, something failed, or there were `late`
        outcomes. An outcome is late if another worker has already finished the task."""
        self.stop()
        worth_it = self.has_bar or self._asked or self.failed or self.skipped or late
        if self._quiet or self._report is not None or not worth_it:
            return
        parts = [f"{self.done} done in {human_duration(time.monotonic() - self._started)}"]
        parts += _counted(self.failed, "failed") + _counted(self.skipped, "skipped")
        if late:
            parts.append(f"{late} late outcome{'s' * (late > 1)} dropped")
        screen.say(f"dq: {', '.join(parts)}")

    def stop(self) -> None:
        """Stop showing progress, and wait for the ticker to end."""
        self._ended = True
        self._stopped.set()
        if self._ticker is not None:
            self._ticker.join()
            self._ticker = None

    def abandon(self) -> None:
        """Have the ticker stop soon. The garbage collector may call this in any thread, so it takes
        no lock and waits for no thread."""
        self._ended = True

    def _tick(self) -> None:
        while not self._ended:
            self._stopped.wait(TICK)
            if self._ended:
                break
            if self.has_bar:
                screen.tick()
            elif time.monotonic() - self._said >= LINE_INTERVAL_S:
                self._said = time.monotonic()
                screen.say(f"dq: {', '.join(self._parts())}")
        if self.has_bar:
            screen.hide()

    def _bar(self, width: int) -> str:
        return draw(self.count, self._known_total(), self._parts(), width)

    def _parts(self) -> list[str]:
        now = time.monotonic()
        seconds = now - self._started
        rate = (self.count - self._replayed) / seconds if seconds > 0 else 0.0
        return describe(
            self.count, self.done, self._known_total(), rate, self.failed, self.skipped,
            now - self._last,
        )  # fmt: skip

    def _known_total(self) -> int | None:
        """How many inputs there are; None if that is unknown, or has turned out to be too low."""
        total = self._total()
        return None if total is None or total < self.count else total


def check_progress(wanted: object) -> None:
    """Refuse a `progress` argument of a wrong type.

    Raises:
        UsageError: it has a wrong type.
    """
    if not isinstance(wanted, bool) and not callable(wanted):
        raise UsageError(
            f"progress must be True, False or a function of (done, total, failed), not {wanted!r}"
        )


def describe(
    count: int,
    done: int,
    total: int | None,
    rate: float,
    failed: int = 0,
    skipped: int = 0,
    silence: float = 0.0,
) -> list[str]:
    """Describe the progress in words.

    Args:
        count: how many inputs have an outcome.
        done: how many of them returned.
        total: how many there are.
        rate: outcomes per second.
        failed, skipped: how many of the others failed, and how many were skipped.
        silence: seconds since the last outcome. If they exceed the estimated time left, the
            estimate was wrong, and none is given.

    >>> describe(50, 48, 200, 5.0, failed=2)
    ['50 of 200', '5/s', '30s left', '2 failed']
    >>> describe(50, 50, None, 0.5)
    ['50 done', '0.5/s']
    """
    parts = [f"{done} done" if total is None else f"{count} of {total}"]
    if rate > 0:
        parts.append(f"{rate:.0f}/s" if rate >= 10 else f"{rate:.2g}/s")
        if total is not None and total > count:
            left = (total - count) / rate
            parts += [f"{human_duration(left)} left"] * (left > silence)
    return parts + _counted(failed, "failed") + _counted(skipped, "skipped")


def _counted(count: int, what: str) -> list[str]:
    return [f"{count} {what}"] if count else []


def draw(done: int, total: int | None, parts: list[str], width: int) -> str:
    """Draw a bar with its words in `width` columns. If space is short, the rate is dropped first.

    >>> draw(1, 2, ["1 of 2"], 18)
    '[####    ] 1 of 2'
    >>> draw(1, 2, ["1 of 2", "0.1/s", "10s left", "1 failed"], 30)
    '1 of 2, 10s left, 1 failed'
    """
    text = ", ".join(parts)
    if len(text) > width:
        text = ", ".join(part for part in parts if not part.endswith("/s"))
    room = min(width - len(text) - 3, MAX_BAR_WIDTH)
    if not total or room < 5:
        return text[:width]
    room -= room % 2
    filled = room * done // total
    return f"[{'#' * filled}{' ' * (room - filled)}] {text}"
