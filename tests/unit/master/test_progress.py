"""Progress on standard error, and what it makes room for."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dq._support import screen
from dq._support.screen import ERASE, Forwarder, Screen
from dq.core.records import Batch, Done, Failed, Failure, Recorded
from dq.master import progress
from dq.master.progress import Progress, describe, draw
from support import wait_until


class Terminal(io.StringIO):
    """A standard error that is a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = self

    def isatty(self) -> bool:
        return True

    def write(self, text: str | bytes) -> int:
        return super().write(text.decode() if isinstance(text, bytes) else text)


class Clock:
    """`time` with a hand that tests move."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


def outcomes(outcome: int | Failed, start: int = 0) -> list[Recorded]:
    """A record of so many tasks that returned, or of one that failed."""
    done = Done(outcome, b"") if isinstance(outcome, int) else outcome
    return [Recorded(Batch("j", start, done.count, b""), done, 1, "here:1")]


class Cell(Terminal):
    """A notebook's standard error: no terminal, and no escapes."""

    __module__ = "ipykernel.iostream"

    def isatty(self) -> bool:
        return False


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (progress, screen):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    terminal = Terminal()
    monkeypatch.setattr(screen, "sys", SimpleNamespace(stderr=terminal))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("CI", raising=False)
    return terminal


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    plain = io.StringIO()
    monkeypatch.setattr(screen, "sys", SimpleNamespace(stderr=plain))
    return plain


@pytest.fixture
def own(clock: Clock, terminal: Terminal) -> Screen:
    """A screen with a bar on it."""
    own = Screen()
    own.show(lambda width: "BAR")
    return own


# -- words


@given(
    st.integers(0, 10**9),
    st.none() | st.integers(1, 10**9),
    st.floats(0, 1e6),
    st.integers(0, 10**9),
    st.integers(10, 300),
)
def test_a_bar_never_breaks_its_line(
    done: int, total: int | None, rate: float, failed: int, width: int
) -> None:
    if total is not None:
        done = min(done, total)
    line = draw(done, total, describe(done, done, total, rate, failed), width)
    assert len(line) <= width
    assert line.isprintable()
    assert line.isascii()  # a terminal without UTF-8 has it as well


@given(st.integers(0, 1000))
def test_a_bar_is_filled_as_far_as_the_work_is_done(done: int) -> None:
    line = draw(done, 1000, [""], 80)
    assert re.fullmatch(r"\[#* *\] ", line)
    assert line.count("#") == 30 * done // 1000


def test_nothing_is_said_of_a_rate_that_nobody_knows_yet() -> None:
    assert describe(0, 0, 300, 0.0) == ["0 of 300"]


def test_a_slow_rate_is_said_with_its_fraction() -> None:
    assert describe(1, 1, None, 0.125) == ["1 done", "0.12/s"]


def test_no_time_is_left_that_has_passed_without_an_outcome() -> None:
    assert describe(9, 9, 10, 0.5, silence=1.0) == ["9 of 10", "0.5/s", "2s left"]
    assert describe(9, 9, 10, 0.5, silence=3.0) == ["9 of 10", "0.5/s"]


def test_done_are_those_that_did_not_fail() -> None:
    assert describe(9, 6, None, 0.0, 2, 1) == ["6 done", "2 failed", "1 skipped"]


def test_in_forty_columns_failures_stay_and_the_rate_goes() -> None:
    parts = describe(125_000, 124_988, 300_000, 1234.0, failed=12)
    assert draw(125_000, 300_000, parts, 40) == "125000 of 300000, 2m22s left, 12 failed"


# -- the bar


def test_a_bar_is_there_from_the_first_moment(terminal: Terminal) -> None:
    shown = Progress(lambda: 300)
    shown.start()
    shown.stop()
    assert re.match(r"\r\x1b\[K\[ +\] 0 of 300\r\x1b\[K$", terminal.getvalue())


def test_a_total_that_is_too_small_is_none(terminal: Terminal, clock: Clock) -> None:
    """A file may grow while it is read."""
    shown = Progress(lambda: 3)
    clock.now += 1
    shown.take(outcomes(5))
    assert shown._bar(80) == "5 done, 5/s"


def test_what_was_known_before_does_not_count_for_the_rate(
    terminal: Terminal, clock: Clock
) -> None:
    shown = Progress(lambda: 1000, known=900)
    shown.take(outcomes(900))
    clock.now += 10
    shown.take(outcomes(10, start=900))
    assert shown._bar(80).endswith("910 of 1000, 1/s, 1m30s left")


def test_a_line_has_the_bar_erased_and_drawn_again(own: Screen, terminal: Terminal) -> None:
    own.say("a line")
    own.tick()
    assert terminal.getvalue() == f"{ERASE}BAR{ERASE}a line\n{ERASE}BAR"


def test_a_bar_is_not_drawn_again_for_each_of_many_lines(
    own: Screen, terminal: Terminal, clock: Clock
) -> None:
    for _ in range(1000):
        own.say("a line")
    assert terminal.getvalue().count("BAR") == 1
    clock.now += 1
    own.tick()
    assert terminal.getvalue().endswith(f"{ERASE}BAR")


def test_a_terminal_sees_a_bar_at_most_five_times_a_second(
    own: Screen, terminal: Terminal, clock: Clock
) -> None:
    for _ in range(100):
        clock.now += 0.05
        own.tick()
    assert 20 <= terminal.getvalue().count("BAR") <= 26


def test_a_notebook_has_a_bar_of_plain_text(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = Cell()
    monkeypatch.setattr(screen, "sys", SimpleNamespace(stderr=cell))
    shown = Progress(lambda: 4, asked=True)
    shown.start()
    shown.take(outcomes(1))
    wait_until(lambda: "1 of 4" in cell.getvalue())
    shown.finish()
    assert "\x1b" not in cell.getvalue()
    last = cell.getvalue().splitlines()[-1]
    assert re.fullmatch(r"dq: 1 done in \S+", last.rpartition("\r")[2])


def test_a_hidden_bar_stays_away(own: Screen, terminal: Terminal) -> None:
    own.hide()
    own.say("a line")
    own.tick()
    assert terminal.getvalue() == f"{ERASE}BAR{ERASE}a line\n"


@pytest.mark.parametrize(("name", "value"), [("CI", "true"), ("TERM", "dumb")])
def test_there_is_no_bar_where_lines_cannot_be_erased(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    assert Progress(lambda: 1).has_bar
    monkeypatch.setenv(name, value)
    assert not Progress(lambda: 1).has_bar


def test_a_terminal_that_has_gone_is_no_reason_to_fail(
    own: Screen, terminal: Terminal, clock: Clock
) -> None:
    terminal.close()
    clock.now += 1
    own.tick()
    own.say("a line")
    own.hide()


# -- lines, and the end


def test_without_a_terminal_a_line_comes_now_and_then(
    plain: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_INTERVAL_S", 0.05)
    shown = Progress(lambda: 100)
    shown.start()
    shown.take(outcomes(30))
    wait_until(lambda: plain.getvalue().count("\n") >= 2)
    shown.stop()
    assert re.match(r"dq: 30 of 100, \d+/s, .* left\n", plain.getvalue().splitlines(True)[-1])


def test_a_short_run_without_a_terminal_says_nothing(plain: io.StringIO) -> None:
    shown = Progress(lambda: 1)
    shown.start()
    shown.take(outcomes(1))
    shown.finish()
    assert plain.getvalue() == ""


def test_what_failed_and_what_was_skipped_is_counted_by_itself(
    plain: io.StringIO, clock: Clock
) -> None:
    shown = Progress(lambda: 4)
    no = Failure("ValueError", "no")
    shown.take([*outcomes(1), *outcomes(Failed(no)), *outcomes(Failed(no))])
    shown.take(outcomes(Failed(Failure("BadInput", "is no JSON"), retry=False)))
    clock.now += 2
    shown.finish(late=1)
    assert plain.getvalue() == "dq: 1 done in 2s, 2 failed, 1 skipped, 1 late outcome dropped\n"


def test_quiet_is_silent(terminal: Terminal) -> None:
    shown = Progress(lambda: 3, quiet=True)
    shown.start()
    shown.take(outcomes(3))
    shown.finish()
    assert terminal.getvalue() == ""


# -- what tasks print


@pytest.fixture
def forwarder(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> Iterator[Forwarder]:
    monkeypatch.setattr(screen, "screen", Screen())
    forwarder = Forwarder()
    yield forwarder
    forwarder.close()


@pytest.fixture
def task(forwarder: Forwarder) -> Iterator[int]:
    """The standard error of a task process."""
    task = forwarder.open()
    yield task
    os.close(task)


def test_lines_come_whole(forwarder: Forwarder, task: int, terminal: Terminal) -> None:
    other = forwarder.open()
    os.write(task, b"one\nbegin")
    wait_until(lambda: terminal.getvalue() == "one\n")
    os.write(other, b"another\n")
    wait_until(lambda: terminal.getvalue() == "one\nanother\n")
    os.write(task, b"ning\n")
    wait_until(lambda: terminal.getvalue() == "one\nanother\nbeginning\n")
    os.close(other)


def test_the_last_line_of_a_process_comes_with_its_end(
    forwarder: Forwarder, terminal: Terminal
) -> None:
    task = forwarder.open()
    os.write(task, b"Segmentation fault")
    os.close(task)
    wait_until(lambda: terminal.getvalue() == "Segmentation fault\n")


def test_the_end_of_a_line_is_not_waited_for_long(
    task: int, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen, "PARTIAL", 0.05)
    os.write(task, b"loading ...")
    wait_until(lambda: terminal.getvalue() == "loading ...\n")


def test_all_that_was_written_comes_before_the_end(
    forwarder: Forwarder, task: int, terminal: Terminal
) -> None:
    os.write(task, b"x" * 50_000 + b"\nand no end")
    forwarder.close()
    assert terminal.getvalue() == "x" * 50_000 + "\nand no end\n"


def test_who_keeps_the_pipe_open_is_not_waited_for(
    forwarder: Forwarder, task: int, terminal: Terminal
) -> None:
    os.write(task, b"one\n")
    forwarder.close()
    assert terminal.getvalue() == "one\n"
