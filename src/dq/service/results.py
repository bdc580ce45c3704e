"""The results of a job, from the rows that a master sends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from dq._support.frozen import TYPE_CHECKING, cast
from dq.core.records import Failure, Loads, Reading, Result
from dq.data import batches, kept
from dq.data.decoding import Decoder
from dq.data.pieces import BadValue
from dq.errors import BadJournal
from dq.service.outcome_wire import FailureWire, outcome_to_wire

if TYPE_CHECKING:
    from dq.service.rows import OutcomeRow  # not at run time: clients need no SQLite

# Start, count, attempts, worker, results, failure, seconds, inputs
Row = tuple[int, int, int, str, bytes, "FailureWire | None", float, "list[bytes] | None"]


class Tally:
    """Counts the tasks in the answers that somebody gets: where an index on the master's disk is
    damaged, it may find too few, each of which is whole."""

    def __init__(self) -> None:
        self._seen = 0
        self._whole: int | None = None

    def add(self, rows: Sequence[Row], whole: int | None) -> None:
        """Note an answer.

        Args:
            rows: what is in it.
            whole: how many tasks there were then in all; None while nobody can say.
        """
        self._seen += sum(row[1] for row in rows)
        if whole is not None:  # the least, since some may have been run again in the meantime
            self._whole = whole if self._whole is None else min(whole, self._whole)

    def check(self) -> None:
        """Check at the end that all were there.

        Raises:
            BadJournal: some were not.
        """
        if self._whole is not None and self._seen < self._whole:
            missing = self._whole - self._seen
            raise BadJournal(f"outcomes of {missing} tasks are missing on the master's disk")


def row_of(row: OutcomeRow, items: list[bytes] | None) -> Row:
    """The outcome of consecutive tasks as it is sent to clients.

    Args:
        row: as it is on disk.
        items: the inputs of these tasks; None if they are not sent.
    """
    outcome = outcome_to_wire(row.outcome)
    return (row.start, row.count, row.attempts, row.worker, *outcome, items)


def reading_from(wire: object) -> Reading:
    """How to make values of inputs, from the master's answer."""
    kind, fields, raw, field, delimiter = cast("tuple[str, list[str], bool, str, str]", wire)
    return Reading(kind=kind, fields=tuple(fields), raw=raw, field=field, delimiter=delimiter)


def results_of(row: Row, reading: Reading, loads: Loads) -> Iterator[Result[object]]:
    """The results in a row. A value whose type is not built in is one of `kept.Forms`.

    Args:
        row: the outcome of consecutive tasks.
        reading: how to make values of their inputs.
        loads: unpickles inputs and values.
    """
    start, count, attempts, worker, blob, failure, seconds, items = row
    inputs = [None] * count if items is None else inputs_of(items, reading, loads)
    if failure is not None:
        kind, message, traceback, _ = failure
        yield Result(
            start, inputs[0], None, Failure(kind, message, traceback), attempts, seconds, worker
        )
        return
    values, times = kept.load(blob, loads)
    for place, (value, took) in enumerate(zip(values, times, strict=True)):
        yield Result(start + place, inputs[place], value, None, attempts, took, worker)


def inputs_of(items: list[bytes], reading: Reading, loads: Loads) -> list[object]:
    """The values of inputs; None for one that cannot be read here."""
    found = decoded(items, reading, loads)
    return [None if isinstance(value, BadValue) else value for value in found]


def decoded(items: list[bytes], reading: Reading, loads: Loads) -> list[object]:
    """The values of inputs; a `BadValue` for one that cannot be read here."""
    return Decoder(reading, loads).decode(batches.dump(items), 0, len(items))


def opened(result: Result[object], loads: Loads) -> Result[object]:
    """A result with its value itself, where that was kept in several forms."""
    if not isinstance(result.value, kept.Forms):
        return result
    value = result.value.value(loads)
    if isinstance(value, BadValue):
        return replace(result, value=None, error=value.failure)
    return replace(result, value=value)
