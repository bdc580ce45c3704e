"""Checks of what a worker sends, since anybody who has the key can send anything.

They are not in `dq.manager.messages`, because task processes do not need them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dq._support.quantities import MOST_PROCESSES, MOST_THREADS
from dq.core.beats import OutputLine, SlotState, Stacks, WorkerState
from dq.core.blobs import Blob
from dq.core.leases import Report
from dq.core.records import (
    LONGEST_NAME,
    LONGEST_TEXT,
    MOST_EXCEPTION_BYTES,
    Done,
    Failed,
    Failure,
    Outcome,
)
from dq.errors import ProtocolError
from dq.manager.messages import Wire, large_blob

MOST_SLOTS = MOST_PROCESSES * MOST_THREADS  # of a supervisor
MOST_STACK_TEXT = 64 * 1024  # of one process
MOST_LINES = 64 * 1024 + 1  # in a beat: as many as are empty, and one


def read_report(wire: Wire, attached: Iterable[memoryview] = ()) -> tuple[str, Report, str]:
    """Read a report from built-in types, and the buffers that were attached to its message.

    Raises:
        ProtocolError: it is not what a `ReportMessage` becomes.
    """
    try:
        run, lease, first, outcomes, handed_back, busy, refusal = wire
        if type(outcomes) is not list:
            raise TypeError("not a list of outcomes")
        buffers = iter(attached)
        taken = [_outcome(item, buffers) for item in outcomes]
        outcomes.clear()  # frees them now: the caller's list lives until the call returns
        report = Report(
            lease=as_count(lease),
            first=as_count(first),
            outcomes=tuple(taken),
            handed_back=as_count(handed_back),
            busy=as_seconds(busy),
        )
        run, refusal = as_text(run), as_text(refusal)[:LONGEST_TEXT]
    except (TypeError, ValueError):
        raise ProtocolError("a report that is none") from None
    return run, report, refusal


def read_beat(wire: Wire) -> WorkerState:
    """Read a beat from built-in types.

    Raises:
        ProtocolError: it is not what a `WorkerState` becomes.
    """
    try:
        slots, stopped, cpu, memory, lines, dropped, stacks, answered = wire
        if (
            type(slots) is not list
            or type(stopped) is not list
            or type(lines) is not list
            or type(stacks) is not list
        ):
            raise TypeError("not a list")
        if max(len(slots), len(stopped), len(stacks)) > MOST_SLOTS:
            raise ValueError("too many slots")
        if len(lines) > MOST_LINES:
            raise ValueError("too many lines")
        return WorkerState(
            slots=tuple(_slot_state(slot) for slot in slots),
            stopped=tuple(as_text(name)[:LONGEST_NAME] for name in stopped),
            cpu=None if cpu is None else as_seconds(cpu),
            memory=as_count(memory),
            lines=tuple(_output_line(line) for line in lines),
            dropped=as_count(dropped),
            stacks=tuple(_stacks(process) for process in stacks),
            answered=as_count(answered),
        )
    except (TypeError, ValueError):
        raise ProtocolError("a beat that is none") from None


def _output_line(wire: Wire) -> OutputLine:
    process, job, index, text = wire
    return OutputLine(
        process=as_text(process)[:LONGEST_NAME],
        job=as_text(job)[:LONGEST_NAME],
        index=-1 if index == -1 else as_count(index),
        text=as_text(text)[:LONGEST_TEXT],
    )


def _stacks(wire: Wire) -> Stacks:
    process, slots, text, error = wire
    if type(slots) is not tuple:
        raise TypeError("not a pair")
    first, count = slots
    return Stacks(
        process=as_text(process)[:LONGEST_NAME],
        slots=(as_count(first), as_count(count)),
        text=as_text(text)[:MOST_STACK_TEXT],
        error=as_text(error)[:LONGEST_NAME],
    )


def _slot_state(wire: Wire) -> SlotState:
    slot, lease, index, age, done, total = wire
    return SlotState(
        slot=as_count(slot),
        lease=as_count(lease),
        index=as_count(index),
        age=as_seconds(age),
        done=None if done is None else as_count(done),
        total=None if total is None else as_count(total),
    )


def as_count(value: object) -> int:
    """Check that a value is an integer of at least 0, and not a bool.

    Raises:
        ValueError: it is something else.
    """
    if type(value) is not int or value < 0:
        raise ValueError("not a count")  # without the value, whose text may be endless
    return value


def as_seconds(value: object) -> float:
    """Check that a value is a time in seconds.

    Raises:
        ValueError: it is something else.
    """
    if type(value) is not float or not 0 <= value < float("inf"):
        raise ValueError("not a time")
    return value


def as_text(value: object) -> str:
    """Check that a value is a text.

    Raises:
        ValueError: it is something else.
    """
    if type(value) is not str:
        raise ValueError("not a text")
    return value


def _outcome(item: Wire, attached: Iterator[memoryview]) -> Outcome:
    """An outcome, whose buffers are taken from those that were attached."""
    if len(item) == 3:
        count, wire, seconds = item
        blob = _blob(wire, attached)
        if not count:
            raise ValueError("not an outcome")
        return Done(count=as_count(count), blob=blob, seconds=as_seconds(seconds))
    type, message, traceback, seconds, retry, exception = item
    failure = Failure(type=as_text(type), message=as_text(message), traceback=as_text(traceback))
    return Failed(
        failure=failure,
        seconds=as_seconds(seconds),
        retry=bool(retry),
        exception=_as_exception(exception),
    )


def _as_exception(value: object) -> bytes:
    """A pickled exception. The server passes it on, and never unpickles it."""
    if type(value) is not bytes or len(value) > MOST_EXCEPTION_BYTES:
        raise ValueError("not an exception")
    return value


def _blob(wire: object, attached: Iterator[memoryview]) -> Blob:
    if isinstance(wire, bytes):
        return wire
    if type(wire) is not tuple or len(wire) != 2:
        raise ValueError("not a blob")
    head, count = wire
    if type(head) is not bytes or not as_count(count):
        raise ValueError("not a blob")
    return large_blob((head, count), attached)
