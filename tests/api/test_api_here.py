"""`dq.run(..., workers=0)`: the function is called in this process and thread."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import dq


class Point:
    def __init__(self, x: int) -> None:
        self.x = x


def test_a_function_is_called_itself_and_in_this_thread() -> None:
    seen: list[object] = []

    def note(x: object) -> None:
        seen.append((x, os.getpid(), threading.get_ident()))

    dq.run(note, ["a", "b"], workers=0)
    assert seen == [(x, os.getpid(), threading.get_ident()) for x in "ab"]


def test_no_thread_is_started() -> None:
    before = threading.active_count()
    [within] = dq.run(lambda x: threading.active_count(), [1], workers=0)
    assert within <= before  # those of earlier tests may end meanwhile


def test_inputs_and_results_keep_their_classes() -> None:
    def move(point: Point) -> Point:
        assert type(point) is Point
        return Point(point.x + 1)

    [moved] = dq.run(move, [Point(1)], workers=0)
    assert (type(moved), moved.x) == (Point, 2)


def test_a_task_that_changes_its_input_does_not_change_the_callers() -> None:
    inputs = [[1], [2]]
    assert dq.run(lambda x: [*x, x.clear()], inputs, workers=0) == [[1, None], [2, None]]
    assert inputs == [[1], [2]]


def test_another_attempt_gets_the_input_as_it_was() -> None:
    numpy = pytest.importorskip("numpy")
    attempts: list[float] = []

    def change(array: Any) -> float:
        attempts.append(float(array[0]))
        array[0] = 7
        if len(attempts) == 1:
            raise ValueError
        return float(array[0])

    array = numpy.zeros(100_000)
    assert dq.run(change, [array], workers=0, retries=1) == [7.0]
    assert attempts == [0.0, 0.0]
    assert array[0] == 0.0


def test_results_are_as_they_were_when_their_task_returned() -> None:
    numpy = pytest.importorskip("numpy")
    shared = numpy.zeros(100_000)

    def fill(x: int) -> Any:
        shared[:] = x
        return shared

    assert [array[0] for array in dq.run(fill, [1, 2], workers=0)] == [1, 2]


def test_a_failed_task_raises_the_error_of_every_run() -> None:
    with pytest.raises(ZeroDivisionError, match="division by zero") as raised:
        dq.run(lambda x: 1 / x, [1, 0], workers=0)
    assert isinstance(raised.value.__cause__, dq.RemoteTraceback)
    values = dq.run(lambda x: 1 / x, [1, 0, 2], workers=0, return_exceptions=True)
    assert [type(value) for value in values] == [float, ZeroDivisionError, float]


def test_an_iterator_is_read_one_step_ahead_and_its_errors_are_raised() -> None:
    def inputs() -> Iterator[int]:
        yield 1
        raise KeyError("no more")

    seen: list[int] = []
    with pytest.raises(KeyError, match="no more"):
        dq.run(seen.append, inputs(), workers=0)
    assert seen == [1]


def test_the_initializer_is_called_once_and_sets_what_tasks_see() -> None:
    table: dict[str, int] = {}

    def prepare() -> None:
        table["calls"] = table.get("calls", 0) + 1

    def look(x: int) -> int:
        return table["calls"]

    assert dq.run(look, [1, 2], workers=0, initializer=prepare) == [1, 1]


def test_async_functions_are_awaited_in_this_thread_and_beside_a_running_loop() -> None:
    async def task(x: int) -> tuple[int, int]:
        await asyncio.sleep(0)
        return x, threading.get_ident()

    assert dq.run(task, [1, 2], workers=0) == [(x, threading.get_ident()) for x in (1, 2)]

    async def notebook() -> list[tuple[int, int]]:
        return dq.run(task, [3], workers=0)

    [(value, _)] = asyncio.run(notebook())
    assert value == 3


def test_an_interrupt_in_a_task_ends_the_run() -> None:
    def interrupt(x: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dq.run(interrupt, [1, 2], workers=0)


def test_a_journal_goes_on_with_workers(tmp_path: Any) -> None:
    path = tmp_path / "j"
    with pytest.raises(TypeError, match="bad operand"):
        dq.run("operator:inv", [1, 2, "x"], workers=0, journal=path)
    values = dq.run("operator:inv", [1, 2, "x"], workers=1, journal=path, return_exceptions=True)
    assert values[:2] == [-2, -3]


@pytest.mark.parametrize(
    "option",
    [{"timeout": 1.0}, {"threads": 2}, {"max_tasks": 1}, {"max_memory": 2**30}],
    ids=lambda option: next(iter(option)),
)
def test_what_only_processes_can_do_is_refused(option: dict[str, Any]) -> None:
    [name] = option
    with pytest.raises(dq.UsageError, match=f"{name} goes with worker processes"):
        dq.run(len, ["x"], workers=0, **option)
