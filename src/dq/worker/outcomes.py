"""Turns what tasks return and raise into the outcomes that are reported."""

from __future__ import annotations

from collections.abc import Callable

from dq._support.frozen import TYPE_CHECKING, cast
from dq._support.naming import setting
from dq.core.blobs import Blob
from dq.core.records import Done, Failed, Failure, Outcome
from dq.data import outputs
from dq.data.buffers import copy_of, head_of
from dq.manager.messages import ReportMessage
from dq.worker.event_loop import is_awaitable
from dq.worker.failure import describe, failed

if TYPE_CHECKING:
    from collections.abc import Awaitable

_SHOWN_MARKS = (b" at 0x", b"<_io.", b"count(", b"repeat(")
_PICKLED_MARKS = (b"builtins", b"itertools")


def split(report: ReportMessage, limit: int) -> list[ReportMessage]:
    """Split a report into several, each with at most about `limit` bytes of results."""
    parts: list[list[Outcome]] = [[]]
    size = 0
    for outcome in report.outcomes:
        nbytes = _size(outcome)
        if parts[-1] and size + nbytes > limit:
            parts.append([])
            size = 0
        parts[-1].append(outcome)
        size += nbytes
    if len(parts) == 1:
        return [report]
    from dataclasses import replace  # here to keep start-up fast: few results are so large

    reports, first = [], report.first
    for part in parts:
        busy = report.busy / len(parts)
        reports.append(replace(report, first=first, outcomes=tuple(part), handed_back=0, busy=busy))
        first += sum(outcome.count for outcome in part)
    reports[0] = replace(reports[0], handed_back=report.handed_back)
    return reports


def _size(outcome: Outcome) -> int:
    """The largest size of an outcome in a message, in bytes."""
    if isinstance(outcome, Done):
        return 100 + len(outcome.blob)
    failure = outcome.failure
    text = len(failure.type) + len(failure.message) + len(failure.traceback)
    return 100 + 4 * text + len(outcome.exception)


class Encoder:
    """Makes outcomes of what the tasks of a batch return.

    Args:
        form: of the results.
        attempt: which attempt at the tasks this is.
        worker: this process's name.
        limit: the largest allowed result, in bytes.
        finish: awaits a result that turns out to be awaitable only here.
        lets_through: says which exceptions are raised, rather than fail their task.
        copies: whether to copy the memory of large results, such as arrays, which may change before
            they are sent.
    """

    def __init__(
        self,
        *,
        form: str,
        attempt: int,
        worker: str,
        limit: int,
        finish: Callable[[Awaitable[object]], object],
        lets_through: Callable[[BaseException], bool] = lambda error: False,
        copies: bool = False,
    ) -> None:
        self._form = form
        self._attempt = attempt
        self._worker = worker
        self._limit = limit
        self._finish = finish
        self._lets_through = lets_through
        self._copies = copies

    def encode(self, start: int, items: list[object], results: list[object]) -> list[Outcome]:
        """The outcomes of consecutive tasks that returned. They become one blob if possible; a
        result that cannot be encoded, or exceeds the limit, gets an outcome of its own.

        Args:
            start: index of the first task.
            items: their inputs.
            results: their return values.
        """
        form, limit, count = self._form, self._limit, len(results)
        try:
            blob = outputs.encode(form, start, items, results, self._attempt, self._worker)
            _check_finished(form, blob, results)
            if len(blob) <= limit:
                blob = copy_of(blob) if self._copies else blob
                return [Done(count, blob, _seconds(form, results))]
            if count == 1:
                name = setting("max_message", by_option=outputs.is_command(form))
                text = f"this result has {len(blob)} bytes, over the limit of {limit} ({name})"
                return [Failed(Failure("ResultTooLarge", text), retry=False)]
        except BaseException as error:  # SystemExit too: the result's own code may raise it
            if self._lets_through(error):
                raise
            if count == 1:
                return self._encode_one(start, items, results[0], error)
        half = count // 2
        first = self.encode(start, items[:half], results[:half])
        return first + self.encode(start + half, items[half:], results[half:])

    def _encode_one(
        self, start: int, items: list[object], result: object, error: BaseException
    ) -> list[Outcome]:
        """The outcome of a single task whose result could not be encoded with others."""
        value, seconds = _value(self._form, result)
        if not is_awaitable(value):
            return [Failed(_unsendable(value, error), retry=False)]
        try:
            value = self._finish(value)
        except BaseException as raised:  # by the task's code
            if self._lets_through(raised):
                raise
            return [failed(raised, self._form)]
        again: object = (value, seconds) if outputs.is_timed(self._form) else value
        return self.encode(start, items, [again])


def _value(form: str, result: object) -> tuple[object, float]:
    """A result without its seconds, and the seconds."""
    return cast("tuple[object, float]", result) if outputs.is_timed(form) else (result, 0.0)


def _seconds(form: str, results: list[object]) -> float:
    """The total seconds of timed results."""
    if not outputs.is_timed(form):
        return 0.0
    return sum([seconds for _, seconds in cast("list[tuple[object, float]]", results)])


def _check_finished(form: str, blob: Blob, results: list[object]) -> None:
    """Refuse results that have not been run yet: their `str` or pickle would be useless.

    Raises:
        TypeError: the results contain a generator, a coroutine or the like.
    """
    if is_suspicious(form, blob):
        for result in results:
            complaint = complaint_of(_value(form, result)[0])
            if complaint is not None:
                raise TypeError(complaint)


def is_suspicious(form: str, blob: Blob) -> bool:
    """Whether encoded results may contain iterators or awaitables. As text, these show their
    address; as pickles, they come from one of two modules. (Checking each result would take a tenth
    of the time of a short task.)

    >>> is_suspicious("text", f"{map(str, [])}".encode()), is_suspicious("text", b"1\\n2\\n")
    (True, False)
    """
    head = head_of(blob)
    marks = _SHOWN_MARKS * outputs.has_text(form) + _PICKLED_MARKS * outputs.has_pickles(form)
    return any(mark in head for mark in marks)


def complaint_of(value: object) -> str | None:
    """Why a value cannot be a result; None if it can."""
    from dq.worker import lazy_results  # here, since few results need it

    return lazy_results.complaint(value)


def _unsendable(value: object, error: BaseException) -> Failure:
    complaint = complaint_of(value)
    if complaint is not None:
        return Failure("TypeError", complaint)
    found = describe(error)
    return Failure(found.type, f"this result cannot be sent: {found.message}")
