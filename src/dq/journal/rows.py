"""The rows of a journal's table of outcomes.

A row is for consecutive tasks. It has their outcome, a digest of their inputs, and a short checksum
of each input, to find a changed one. It also has a checksum of itself, since SQLite's pages have
none.
"""

from __future__ import annotations

import base64
import hashlib
import json
from array import array
from collections.abc import Sequence
from typing import Any, cast

from dq._support.frozen import frozen
from dq.core.records import Done, Failed, Failure, Outcome, Recorded
from dq.data import batches
from dq.journal.input_digests import digest_of, parts_in

COLUMNS = 10  # of the table of outcomes
Columns = Sequence[object]


@frozen
class Row:
    """The recorded outcome of consecutive tasks.

    Args:
        start: index of the first task.
        count: how many tasks.
        attempts: how many attempts were recorded.
        worker: the worker that ran the last attempt.
        outcome: the outcome of all of them.
        inputs: a digest of their inputs.
        sums: a checksum of each input, four bytes each.
    """

    start: int
    count: int
    attempts: int
    worker: str
    outcome: Outcome
    inputs: bytes
    sums: bytes

    @property
    def stop(self) -> int:
        """Index after the last task."""
        return self.start + self.count

    def to_columns(self) -> Columns:
        """The columns of the table, with a checksum."""
        return sealed(
            self.start, self.count, self.attempts, *outcome_columns(self.worker, self.outcome),
            self.inputs, self.sums,
        )  # fmt: skip

    @classmethod
    def from_columns(cls, columns: Columns) -> Row | None:
        """The inverse of `to_columns`; None if the checksum is wrong."""
        if len(columns) != COLUMNS or not is_whole(columns):
            return None
        whole = cast("tuple[Any, ...]", columns)  # the checksum is right, so the types are
        start, count, attempts, worker, blob, failure, seconds, inputs, sums, _ = whole
        return cls(
            start=start,
            count=count,
            attempts=attempts,
            worker=worker,
            outcome=outcome_from(count, blob, failure, seconds),
            inputs=inputs,
            sums=sums,
        )


def outcome_columns(worker: str, outcome: Outcome) -> tuple[str, bytes, str | None, float]:
    """An outcome and its worker as columns: the worker, the results, the failure, the seconds."""
    blob, failure = b"", None
    if isinstance(outcome, Done):
        blob = batches.joined(outcome.blob)
    else:
        failure = _failure_to_json(outcome)
    worker = worker.encode(errors="backslashreplace").decode()  # SQLite takes UTF-8 only
    return worker, blob, failure, outcome.seconds + 0.0  # SQLite has no -0.0


def outcome_from(count: int, blob: bytes, failure: str | None, seconds: float) -> Outcome:
    """The inverse, of so many tasks."""
    if failure is None:
        return Done(count=count, blob=blob, seconds=seconds)
    return _failure_from_json(failure, seconds)


def _failure_to_json(failed: Failed) -> str:
    """A failure for a column. Where there is no exception there is no fifth part, as in journals
    from before there was one."""
    cause = failed.failure
    parts: list[object] = [cause.type, cause.message, cause.traceback, failed.retry]
    if failed.exception:
        parts.append(base64.b64encode(failed.exception).decode())
    return json.dumps(parts)


def _failure_from_json(text: str, seconds: float) -> Failed:
    kind, message, traceback, retry, *rest = json.loads(text)
    cause = Failure(type=kind, message=message, traceback=traceback)
    exception = base64.b64decode(rest[0]) if rest else b""
    return Failed(failure=cause, seconds=seconds, retry=retry, exception=exception)


def sealed(*columns: object) -> Columns:
    """Columns, with their checksum added at the end."""
    return (*columns, _checksum(columns))


def is_whole(columns: Columns) -> bool:
    """Whether the checksum of columns from `sealed` is right."""
    return columns[-1] == _checksum(columns[:-1])


def _checksum(columns: Columns) -> bytes:
    """A digest of all columns. It starts with the lengths of blobs, so that moving a byte from one
    to the next changes it."""
    blobs = [column for column in columns if isinstance(column, bytes)]
    head = [(len(c),) if isinstance(c, bytes) else c for c in columns]
    digest = hashlib.blake2b(repr(head).encode(errors="replace"), digest_size=16)
    for blob in blobs:
        digest.update(blob)
    return digest.digest()


def row_of(record: Recorded, lines: bool) -> Row:
    """The row that is written for a record."""
    batch = record.batch
    digest, sums = digest_of(parts_in(batch, lines))
    return Row(
        start=batch.start,
        count=batch.count,
        attempts=record.attempts,
        worker=record.worker,
        outcome=record.outcome,
        inputs=digest,
        sums=sums,
    )


def changed(parts: Sequence[bytes], row: Row) -> int | None:
    """The index of the first input that differs from the recorded one; None if none does.

    >>> digest, sums = digest_of([b"1", b"2"])
    >>> row = Row(10, 2, 1, "", Done(2, b""), digest, sums)
    >>> changed([b"1", b"2"], row), changed([b"1", b"3"], row)
    (None, 11)
    """
    digest, sums = digest_of(parts)
    if digest == row.inputs:
        return None
    pairs = zip(array("I", sums), array("I", row.sums), strict=True)
    places = (place for place, (now, then) in enumerate(pairs) if now != then)
    return row.start + next(places, 0)
