"""Makes results from records and their inputs, for the readers of a job."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat, starmap
from typing import Protocol

from dq.core.records import Batch, Failed, Failure, Recorded, Result
from dq.data import outputs
from dq.data.pieces import BadValue


class Inputs(Protocol):
    """The inputs of records. A `ServedJob` has them."""

    def values(self, batch: Batch) -> list[object]:
        """The inputs of a batch."""

    def input_of(self, batch: Batch, failure: Failure) -> object:
        """The input of one failed task; a `BadValue` if it must not be unpickled here."""


def results_of(inputs: Inputs, record: Recorded) -> Iterator[Result[object]]:
    """The results in a record, for a job with output "results", or for one failed task."""
    batch, outcome = record.batch, record.outcome
    if isinstance(outcome, Failed):
        item = inputs.input_of(batch, outcome.failure)
        args = outcome.failure, record.attempts, outcome.seconds, record.worker
        return iter([outputs.failed(batch.start, item, *args)])
    items = inputs.values(batch)
    values, seconds, bad = outputs.load_timed(outcome.blob)
    errors: Iterable[Failure | None] = repeat(None, batch.count)
    if bad:
        errors = [value.failure if isinstance(value, BadValue) else None for value in values]
        values = [None if isinstance(value, BadValue) else value for value in values]
    attempts, workers = repeat(record.attempts, batch.count), repeat(record.worker, batch.count)
    # No loop in Python, which would take as long as the rest of the master's work for a short task.
    ids = range(batch.start, batch.stop)
    return starmap(Result, zip(ids, items, values, errors, attempts, seconds, workers, strict=True))
