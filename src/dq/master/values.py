"""From a job's records to the values and results that `Master.map` and `stream` return."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from dq.core.records import Failed, Recorded, Result
from dq.data import batches
from dq.data.pieces import BadValue
from dq.dispatch.results import Inputs, results_of
from dq.errors import TaskError
from dq.master.job_reader import JobReader
from dq.master.raising import Raised, raised

T = TypeVar("T")
Batches = Callable[[], Iterator[Iterable[T]]]  # starts an iterator over a job's batches


def chained(job: JobReader, batches: Batches[T]) -> Iterator[T]:
    """One iterator over all of a job's batches. It abandons the job at its end, or when the
    iterator is garbage-collected. (A generator that yields single values would cost 100 ns for
    each, more than everything else that the master does for a short task.)"""

    def run() -> Iterator[Iterable[T]]:
        try:
            yield ()  # from here on `finally` always runs
            with job.progress_shown():
                yield from batches()
        finally:
            job.abandon()

    started = run()
    next(started)
    return itertools.chain.from_iterable(started)


def results(job: JobReader) -> Iterator[Iterator[Result[object]]]:
    """The results of each batch, as they arrive."""
    return (results_of(job.served, record) for record in job.unordered())


def values_of(job: JobReader, ordered: bool) -> Iterator[list[object]]:
    """The values of each batch, up to the first task that failed, whose exception is raised."""
    for record in job.ordered() if ordered else job.unordered():
        values, failed = values_in(job.served, record, noted=True)
        if not failed:
            yield values
            continue
        for value in values:
            if type(value) is Raised:
                try:
                    raise value.error
                finally:  # its traceback has this frame, which would keep it alive
                    del value, values
            yield [value]


def values_or_exceptions(job: JobReader) -> Iterator[list[object]]:
    """The values of each batch in order, with its exception for each task that failed."""
    for record in job.ordered():
        values, failed = values_in(job.served, record, noted=True)
        if failed:
            values = [value.error if type(value) is Raised else value for value in values]
        yield values


def values_in(
    inputs: Inputs, record: Recorded, *, noted: bool = False
) -> tuple[list[object], bool]:
    """The values of a record, with a `Raised` for each task that failed; and whether one did.

    Args:
        inputs: of the job.
        record: the record.
        noted: whether exceptions say which task it was, which a call's own future need not.
    """
    if isinstance(record.outcome, Failed):
        return [raised(inputs, record, record.outcome, noted=noted)], True
    values, bad = batches.load_checked(record.outcome.blob)
    if not bad:
        return values, False
    items = inputs.values(record.batch)
    return [
        Raised(TaskError(_bad_result(record, place, items[place], value)))
        if type(value) is BadValue
        else value
        for place, value in enumerate(values)
    ], True


def _bad_result(record: Recorded, place: int, item: object, bad: BadValue) -> Result[object]:
    """The result of a task whose value cannot be unpickled here."""
    return Result(
        id=record.batch.start + place,
        input=item,
        error=bad.failure,
        attempts=record.attempts,
        worker=record.worker,
    )
