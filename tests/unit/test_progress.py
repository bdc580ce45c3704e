"""Progress on standard error."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dq.board import Board, Job, Rules
from dq.cli import progress
from dq.cli.progress import Progress, describe, draw


class Terminal(io.StringIO):
    """A standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """`time` with a hand that tests move."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    terminal = Terminal()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=terminal))
    return terminal


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    plain = io.StringIO()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=plain))
    return plain


def job_of(count: int, ended: bool = True) -> Job:
    board = Board(iter(range(9)))
    job = board.open_job("j", Rules())
    board.supply("j", count)
    if ended:
        board.end("j")
    return job


@given(
    st.integers(0, 10**9), st.none() | st.integers(1, 10**9), st.floats(0, 1e6), st.integers(1, 300)
)
def test_a_bar_never_breaks_its_line(
    done: int, total: int | None, seconds: float, width: int
) -> None:
    if total is not None:
        done = min(done, total)
    line = draw(done, total, describe(done, total, seconds), width)
    assert len(line) <= width
    assert "\n" not in line


@given(st.integers(0, 1000))
def test_a_bar_is_filled_as_far_as_the_work_is_done(done: int) -> None:
    line = draw(done, 1000, "", 80)
    assert re.fullmatch(r"\[#* *\] ", line)
    assert line.count("#") == 40 * done // 1000


def test_progress_is_said_before_anything_is_done() -> None:
    assert describe(0, 10, 0.0) == "0 of 10, 0/s, ? left"


def test_a_slow_rate_is_said_with_its_fraction() -> None:
    assert describe(1, None, 8.0) == "1 done, 0.12/s"


def test_a_terminal_sees_a_bar_at_most_five_times_a_second(
    terminal: Terminal, clock: Clock
) -> None:
    shown = Progress(quiet=False)
    for _ in range(100):
        clock.now += 0.05
        shown.advance(1, job_of(100))
    assert 1 <= terminal.getvalue().count("\r") <= 25
    assert "of 100" in terminal.getvalue()


def test_the_total_is_not_said_while_inputs_still_come(terminal: Terminal, clock: Clock) -> None:
    shown = Progress(quiet=False)
    clock.now += 1
    shown.advance(5, job_of(100, ended=False))
    assert "5 done, 5/s" in terminal.getvalue()
    assert "of" not in terminal.getvalue()


def test_a_bar_makes_room_for_a_line(terminal: Terminal, clock: Clock) -> None:
    shown = Progress(quiet=False)
    clock.now += 1
    shown.advance(1, job_of(100))
    shown.clear()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_without_a_terminal_a_line_comes_every_half_minute(
    plain: io.StringIO, clock: Clock
) -> None:
    shown = Progress(quiet=False)
    for _ in range(61):
        clock.now += 1
        shown.advance(1, job_of(100))
    assert plain.getvalue().splitlines() == [
        "dq: 30 of 100, 1/s, 1m10s left",
        "dq: 60 of 100, 1/s, 40s left",
    ]


def test_a_short_run_without_a_terminal_says_nothing(plain: io.StringIO, clock: Clock) -> None:
    shown = Progress(quiet=False)
    clock.now += 1
    shown.advance(1, job_of(1))
    shown.finish(failed=0)
    assert plain.getvalue() == ""


def test_failures_are_counted_at_the_end(plain: io.StringIO, clock: Clock) -> None:
    shown = Progress(quiet=False)
    shown.advance(3, job_of(3))
    clock.now += 2
    shown.finish(failed=1)
    assert plain.getvalue() == "dq: 3 done in 2s, 1 failed\n"


def test_quiet_is_silent(terminal: Terminal, clock: Clock) -> None:
    shown = Progress(quiet=True)
    clock.now += 100
    shown.advance(3, job_of(3))
    shown.clear()
    shown.finish(failed=1)
    assert terminal.getvalue() == ""
