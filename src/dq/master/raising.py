"""What callers get for a task that failed: the exception that it raised, or a `TaskError`.

It is the exception itself if its class can be had here and it survived pickling. Its cause is then
a `RemoteTraceback`, as with `concurrent.futures`. Otherwise (its worker died, it ran too long, its
class is not here, it was a SystemExit) it is a `TaskError`, which has the failure as text.
"""

from __future__ import annotations

import reprlib

from dq.core.records import Failed, Recorded, printable
from dq.data import exceptions
from dq.data.pieces import BadValue
from dq.dispatch.results import Inputs, results_of
from dq.errors import TaskError


class Raised:
    """Stands in for the value of a task that failed, and has the exception to raise in its place. A
    task may return exceptions too, so these alone would not show that it failed."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


def raised(inputs: Inputs, record: Recorded, failed: Failed, *, noted: bool) -> Raised:
    """What to raise for a failed task, in a new object each time.

    Args:
        inputs: of its job.
        record: the task's.
        failed: its outcome.
        noted: whether the exception says which task it was. A `TaskError` always does.
    """
    error = exceptions.load(failed.exception)
    if error is not None:
        note = _note(inputs, record, failed) if noted else ""
        if exceptions.annotate(error, failed.failure.traceback, note):
            return Raised(error)
    [result] = results_of(inputs, record)
    return Raised(TaskError(result))


def _note(inputs: Inputs, record: Recorded, failed: Failed) -> str:
    """Which task it was, as one line."""
    place = f"dq: task {record.batch.start}, input {_shown_input(inputs, record, failed)}"
    return f"{place}, attempt {record.attempts}, on {printable(record.worker)}"


_input_repr = reprlib.Repr()
_input_repr.maxstring = _input_repr.maxlong = _input_repr.maxother = 80


def _shown_input(inputs: Inputs, record: Recorded, failed: Failed) -> str:
    """A task's input, short and in one line."""
    try:
        item = inputs.input_of(record.batch, failed.failure)
        if isinstance(item, BadValue):
            return "unknown"
        return printable(" ".join(_input_repr.repr(item).split()))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # its own code may raise anything, SystemExit too
        return f"without a repr ({type(error).__qualname__})"
