"""Wrappers around a job's function: they unpack its input, limit its time and await its result."""

from __future__ import annotations

import time
from collections.abc import Callable

from dq._support.frozen import TYPE_CHECKING
from dq._support.naming import setting
from dq.data import outputs
from dq.data.pieces import BadValue
from dq.functions.spec import JobSpec
from dq.worker.cells import DEADLINE, SlotCells
from dq.worker.event_loop import is_awaitable
from dq.worker.failure import BadItem

if TYPE_CHECKING:
    from dq.worker.batch import RunningBatch
    from dq.worker.event_loop import Awaiter


def unpacking(function: Callable[..., object], spec: JobSpec) -> Callable[[object], object]:
    """The same function, given the parts of a list or of a mapping as its arguments."""

    def call(item: object) -> object:
        if isinstance(item, dict):
            return function(**item)
        if isinstance(item, list | tuple):
            return function(*item)
        name = setting("unpack", by_option=outputs.is_command(spec.output))
        raise TypeError(f"{name} needs a list or a mapping, not {type(item).__name__}")

    return call


def awaiting(call: Callable[[object], object], loop: Awaiter) -> Callable[[object], object]:
    """The same function; its result is awaited if it is awaitable."""

    def awaited(item: object) -> object:
        result = call(item)
        if is_awaitable(result):
            return loop.run(result)
        return result

    return awaited


def limited(
    call: Callable[[object], object], cells: SlotCells, seconds: float
) -> Callable[[object], object]:
    """The same function, with a time limit that the supervisor enforces."""
    nanoseconds = int(seconds * 1e9)

    def limited(item: object) -> object:
        cells.view[DEADLINE] = time.monotonic_ns() + nanoseconds
        try:
            return call(item)
        finally:
            cells.view[DEADLINE] = 0

    return limited


def timing(
    call: Callable[[object], object], batch: RunningBatch
) -> Callable[[object], tuple[object, float]]:
    """The same function, which returns its seconds too."""
    clock = time.perf_counter

    def timed(item: object) -> tuple[object, float]:
        started = clock()
        try:
            return call(item), clock() - started
        except BaseException:
            batch.seconds = clock() - started
            raise

    return timed


def checking(call: Callable[[object], object]) -> Callable[[object], object]:
    """The same function, not called with an input that could not be read."""

    def checked(item: object) -> object:
        if isinstance(item, BadValue):
            raise BadItem(item.failure)
        return call(item)

    return checked
