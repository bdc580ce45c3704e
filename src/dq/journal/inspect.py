"""Reads a journal's contents, for users and other programs."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dq._support.frozen import frozen
from dq._support.spans import Span
from dq.core.records import Failed
from dq.data import outputs
from dq.data.buffers import head_of
from dq.errors import BadJournal
from dq.journal.database import (
    UNREADABLE,
    check,
    check_log,
    explained,
    failed_inputs,
    open_reader,
    read_about,
)
from dq.journal.facts import Facts
from dq.journal.input_digests import part_of
from dq.journal.rows import Row, changed
from dq.journal.write_ahead_log import has_log
from dq.security.safe_pickle import safe_loads


@frozen
class FailedTask:
    """A failed task in a journal.

    Args:
        id: the task's.
        input: as JSON; None if the journal does not have it.
        outcome: why it failed, and after how long.
        attempts: how many were recorded.
        worker: the worker that ran the last attempt.
    """

    id: int
    input: str | None
    outcome: Failed
    attempts: int
    worker: str

    @classmethod
    def of(cls, row: Row, outcome: Failed, input: str | None) -> FailedTask:
        """Make one from a row and its outcome."""
        return cls(
            id=row.start, input=input, outcome=outcome, attempts=row.attempts, worker=row.worker
        )

    def to_json(self) -> str:
        """Its record, as ``--format jsonl`` and ``--failures`` have it."""
        cause = self.outcome.failure
        error = {"type": cause.type, "message": cause.message, "traceback": cause.traceback}
        given = {} if self.input is None else {"input": json.loads(self.input)}
        record = {"id": self.id, **given, "error": error, "attempts": self.attempts}
        record |= {"seconds": round(self.outcome.seconds, 6), "worker": self.worker}
        return outputs.dumps(record) + "\n"


@dataclass(slots=True)
class Contents:
    """A summary of a journal.

    Args:
        facts: what the run is, see `facts.facts`.
        open: whether a master has it open, or died while it was open.
        done: how many tasks returned.
        unreadable: how many inputs could not be read.
        spans: ranges of tasks that have an outcome, in order.
        failed: the tasks that failed.
    """

    facts: Facts
    open: bool
    done: int = 0
    unreadable: int = 0
    spans: list[Span] = field(default_factory=list)
    failed: list[FailedTask] = field(default_factory=list)

    def add(self, row: Row, given: str | None = None) -> None:
        """Add the next row in order; `given` is the input of a failed task."""
        outcome = row.outcome
        if not isinstance(outcome, Failed):
            self.done += row.count
        elif outcome.is_unreadable:
            self.unreadable += 1
        else:
            self.failed.append(FailedTask.of(row, outcome, given))
        if self.spans and self.spans[-1][1] == row.start:
            self.spans[-1] = (self.spans[-1][0], row.stop)
        else:
            self.spans.append((row.start, row.stop))

    @property
    def gaps(self) -> list[Span]:
        """The ranges of tasks without an outcome that precede a task with one."""
        edges = [(0, 0), *self.spans]
        pairs = itertools.pairwise(edges)
        return [(before[1], after[0]) for before, after in pairs if before[1] < after[0]]


def look(path: str) -> Contents:
    """Summarise a journal. An empty file is a journal without outcomes.

    Raises:
        BadJournal: it is not a journal, or damaged, or of another dq.
        OutputError: it cannot be read.
    """
    if _is_empty(path):
        return Contents(facts={}, open=False)
    with _reading(path) as db:
        about = read_about(path, db)
        contents = Contents(facts=about.facts, open=about.open)
        given = _FailedInputs(db)
        for row in whole_rows(db):
            contents.add(row, given.of(row))
        return contents


def failures(path: str) -> Iterator[FailedTask]:
    """All failed tasks that were not run again.

    Raises:
        As for `look`.
    """
    if _is_empty(path):
        return
    with _reading(path) as db:
        given = _FailedInputs(db)
        for row in whole_rows(db):
            outcome = row.outcome
            if isinstance(outcome, Failed) and not outcome.is_unreadable:
                yield FailedTask.of(row, outcome, given.of(row))


def changed_line(path: str, lines: Sequence[bytes], *, retry_failed: bool = False) -> int | None:
    """The index of the first of a run's lines that is not what it was when the journal was written;
    None if there is none. Only outcomes all of whose lines are given can be compared.

    Args:
        path: the journal's.
        lines: the first inputs of the run.
        retry_failed: leave out the tasks that failed, whose outcomes the run would forget.

    Raises:
        As for `look`.
    """
    if _is_empty(path):
        return None
    with _reading(path) as db:
        for row in whole_rows(db):
            if row.stop > len(lines):
                break
            if retry_failed and isinstance(row.outcome, Failed):
                continue
            index = changed([part_of(line, True) for line in lines[row.start : row.stop]], row)
            if index is not None:
                return index
    return None


class _FailedInputs:
    """The inputs of failed tasks, which have to be asked for in the tasks' order."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._rows = failed_inputs(db)
        self._next = next(self._rows, None)

    def of(self, row: Row) -> str | None:
        """The input of a row's task; None if the journal does not have it."""
        while self._next is not None and int(str(self._next[0])) < row.start:
            self._next = next(self._rows, None)
        if self._next is None or self._next[0] != row.start:
            return None
        return str(self._next[1])


def records(path: str) -> Iterator[str]:
    """A line of JSON for each task that has an outcome, like ``--format jsonl``, with those fields
    that the journal has.

    Raises:
        As for `look`.
    """
    if _is_empty(path):
        return
    with _reading(path) as db:
        output = read_about(path, db).facts["output"]
        given = _FailedInputs(db)
        for row in whole_rows(db):
            yield from _lines_of(row, output, given.of(row))


def file_of(path: str) -> str:
    """Follow links to the journal's file, since its -wal is beside that.

    Raises:
        BadJournal: it is not a file.
    """
    if not os.path.isfile(path):
        why = "it is no regular file" if os.path.exists(path) else "no such file"
        raise BadJournal(f"cannot open the journal {path}: {why}")
    return os.path.realpath(path)


def _is_empty(path: str) -> bool:
    file = file_of(path)
    return os.path.getsize(file) == 0 and not has_log(file)


@contextlib.contextmanager
def _reading(path: str) -> Iterator[sqlite3.Connection]:
    file = file_of(path)
    try:
        db = open_reader(file, alone=not os.path.exists(file + "-wal"))
        try:
            check(path, db)
            check_log(path)
            yield db
        finally:
            db.close()
    except UNREADABLE as error:
        raise explained(path, error) from None


def whole_rows(db: sqlite3.Connection) -> Iterator[Row]:
    """All undamaged rows, in the tasks' order."""
    for columns in db.execute("SELECT * FROM outcomes ORDER BY start"):
        row = Row.from_columns(columns)
        if row is not None:  # otherwise it was damaged after `check`
            yield row


def _lines_of(row: Row, output: str, given: str | None) -> Iterator[str]:
    outcome = row.outcome
    common = {"attempts": row.attempts, "worker": row.worker}
    if isinstance(outcome, Failed):
        yield FailedTask.of(row, outcome, given).to_json()
        return
    # Only standard data types are unpickled, since somebody else may have made the journal.
    results = outputs.decode(output, outcome.blob, outcome.count, safe_loads)
    if results is None:
        yield head_of(outcome.blob).decode()
        return
    for place, result in enumerate(results):
        yield _line({"id": row.start + place, **result, **common})


def _line(record: dict[str, object]) -> str:
    """A record as JSON, without its result if that has no JSON form."""
    try:
        return outputs.dumps(record) + "\n"
    except TypeError:
        rest = {key: value for key, value in record.items() if key != "result"}
        return outputs.dumps(rest) + "\n"
