"""What a journal has: to look at, and to save from a damaged one."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field

from dq._support.frozen import frozen
from dq._support.spans import Span
from dq.core.records import Done, Failed
from dq.data import inputs, outputs
from dq.errors import BadJournal, UsageError
from dq.journal.sqlitefile import Remains, has_log
from dq.journal.writer import (
    COLUMNS,
    UNREADABLE,
    Columns,
    Facts,
    Lock,
    Row,
    check,
    check_log,
    create,
    explained,
    failed_inputs,
    is_whole,
    open_reader,
    read_about,
    set_about,
)
from dq.security.safe_pickle import safe_loads


@frozen
class FailedTask:
    """What a journal has of one.

    Args:
        id: its task's.
        input: as JSON; None where the journal does not have it.
        outcome: why it failed, and after how long.
        attempts: how often it was started on the record.
        worker: who ran the last attempt.
    """

    id: int
    input: str | None
    outcome: Failed
    attempts: int
    worker: str

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
    """What a journal has, in numbers.

    Args:
        facts: of the run, see `journal.facts`.
        open: whether a master has it open, or died with it.
        done: how many tasks returned.
        unreadable: how many inputs could not be read.
        spans: which tasks have an outcome, in order.
        failed: those that failed.
    """

    facts: Facts
    open: bool
    done: int = 0
    unreadable: int = 0
    spans: list[Span] = field(default_factory=list)
    failed: list[FailedTask] = field(default_factory=list)

    def add(self, row: Row, given: str | None = None) -> None:
        """Count a row, of a task with this input where it failed; they come in order."""
        outcome = row.outcome
        if not isinstance(outcome, Failed):
            self.done += row.count
        elif outcome.is_unreadable:
            self.unreadable += 1
        else:
            self.failed.append(FailedTask(row.start, given, outcome, row.attempts, row.worker))
        if self.spans and self.spans[-1][1] == row.start:
            self.spans[-1] = (self.spans[-1][0], row.stop)
        else:
            self.spans.append((row.start, row.stop))

    @property
    def gaps(self) -> list[Span]:
        """Which tasks have none, though later ones do."""
        edges = [(0, 0), *self.spans]
        pairs = itertools.pairwise(edges)
        return [(before[1], after[0]) for before, after in pairs if before[1] < after[0]]


def look(path: str) -> Contents:
    """Count what a journal has; an empty file is one of no run yet.

    Raises:
        BadJournal: it is none, damaged, or of another dq.
        OutputError: it cannot be read.
    """
    if _is_empty(path):
        return Contents({}, False)
    with _reading(path) as db:
        about = read_about(path, db)
        contents = Contents(about.facts, about.open)
        given = _FailedInputs(db)
        for row in _rows(db):
            contents.add(row, given.of(row))
        return contents


def failures(path: str) -> Iterator[FailedTask]:
    """All tasks that failed, and have not been run again.

    Raises:
        As for `look`.
    """
    if _is_empty(path):
        return
    with _reading(path) as db:
        given = _FailedInputs(db)
        for row in _rows(db):
            outcome = row.outcome
            if isinstance(outcome, Failed) and not outcome.is_unreadable:
                yield FailedTask(row.start, given.of(row), outcome, row.attempts, row.worker)


class _FailedInputs:
    """The inputs of tasks that failed, asked for in the tasks' order."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._rows = failed_inputs(db)
        self._next = next(self._rows, None)

    def of(self, row: Row) -> str | None:
        """That of a row's task; None where there is none."""
        while self._next is not None and int(str(self._next[0])) < row.start:
            self._next = next(self._rows, None)
        if self._next is None or self._next[0] != row.start:
            return None
        return str(self._next[1])


def records(path: str) -> Iterator[str]:
    """A line of JSON for each task that has an outcome, as ``--format jsonl`` has them; without
    what the journal does not have.

    Raises:
        As for `look`.
    """
    if _is_empty(path):
        return
    with _reading(path) as db:
        output = read_about(path, db).facts["output"]
        given = _FailedInputs(db)
        for row in _rows(db):
            yield from _lines_of(row, output, given.of(row))


def _file_of(path: str) -> str:
    """The journal's file, beside which its -wal is; a link is not."""
    if not os.path.isfile(path):
        why = "it is no regular file" if os.path.exists(path) else "no such file"
        raise BadJournal(f"cannot open the journal {path}: {why}")
    return os.path.realpath(path)


def _is_empty(path: str) -> bool:
    file = _file_of(path)
    return os.path.getsize(file) == 0 and not has_log(file)


@contextlib.contextmanager
def _reading(path: str) -> Iterator[sqlite3.Connection]:
    file = _file_of(path)
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


def _rows(db: sqlite3.Connection) -> Iterator[Row]:
    for columns in db.execute("SELECT * FROM outcomes ORDER BY start"):
        row = Row.from_columns(columns)
        if row is not None:  # else it came after `check`
            yield row


def _lines_of(row: Row, output: str, given: str | None) -> Iterator[str]:
    outcome = row.outcome
    common = {"attempts": row.attempts, "worker": row.worker}
    if isinstance(outcome, Failed):
        yield FailedTask(row.start, given, outcome, row.attempts, row.worker).to_json()
    elif output == "jsonl":
        yield outcome.blob.decode()
    else:
        for place, result in enumerate(_results(outcome, output)):
            yield _line({"id": row.start + place, **result, **common})


def _line(record: dict[str, object]) -> str:
    """A record; without its result, where that has no form in JSON."""
    try:
        return outputs.dumps(record) + "\n"
    except TypeError:
        rest = {key: value for key, value in record.items() if key != "result"}
        return outputs.dumps(rest) + "\n"


def _results(done: Done, output: str) -> list[dict[str, object]]:
    """What there is of each task's result. Unpickled are only standard data types: a journal may
    come from somebody else."""
    if output in outputs.TEXTS:
        texts = outputs.read_text(output, done.blob, done.count)
        return [{}] * done.count if texts is None else [{"result": text} for text in texts]
    blob, seconds = done.blob, [None] * done.count
    if output == "results":
        blob, seconds = safe_loads(blob)  # type: ignore[misc]  # what a worker made of it
    results: list[dict[str, object]] = []
    for value, took in zip(inputs.load(blob, safe_loads), seconds, strict=True):
        result = {} if isinstance(value, inputs.Bad) else {"result": value}
        results.append(result | ({} if took is None else {"seconds": round(took, 6)}))
    return results


def recover(path: str, new: str) -> Contents:
    """Save every row whose checksum is right from a damaged journal to a new one.

    Raises:
        BadJournal: there is none, it is in use, or nothing says any more what run it is of.
        UsageError: the new file exists, or cannot be written.
    """
    file = _file_of(path)
    if os.path.exists(new):
        raise UsageError(f"{new} exists: give --recover a new file")
    lock = Lock(file, path)
    try:
        return _save(path, new)
    except sqlite3.Error as error:
        raise UsageError(f"cannot write {new}: {error}") from None
    finally:
        lock.release()


def _save(path: str, new: str) -> Contents:
    facts: Facts | None = None
    db = sqlite3.connect(new, isolation_level=None)
    try:
        create(db, {})
        db.execute("BEGIN")
        for columns in Remains(_file_of(path)).rows():
            if len(columns) == COLUMNS:
                _save_row(db, columns)
            elif len(columns) == 3 and is_whole(columns):
                db.execute("REPLACE INTO failed_inputs VALUES (?, ?, ?)", columns)
            elif facts is None:
                facts = _facts_of(columns)
        if facts is None:
            raise BadJournal(f"nothing in {path} says of which run it was; nothing can be saved")
        set_about(db, facts)
        contents = Contents(facts, False)
        for row in _without_overlaps(db):
            contents.add(row)
        db.execute("COMMIT")
        return contents
    except BaseException:
        os.unlink(new)
        raise
    finally:
        db.close()


def _save_row(db: sqlite3.Connection, columns: Columns) -> None:
    """Save a row that is whole. Of two for the same task one is out of date: a failure that was
    run again later, so what returned is what counts."""
    start, count, attempts, worker, blob, failure, seconds, *rest = columns
    if not isinstance(seconds, int | float):
        return
    # SQLite stores a REAL without fraction as an integer.
    columns = (start, count, attempts, worker, blob, failure, float(seconds), *rest)
    if is_whole(columns):
        how = "OR IGNORE" if failure is not None else "OR REPLACE"
        db.execute(f"INSERT {how} INTO outcomes VALUES ({', '.join('?' * COLUMNS)})", columns)


def _facts_of(columns: Columns) -> Facts | None:
    if len(columns) != 4 or not is_whole(columns):
        return None
    facts: Facts = json.loads(str(columns[2]))
    return facts


def _without_overlaps(db: sqlite3.Connection) -> Iterator[Row]:
    """All rows; of two that have the same task the later one is dropped, and run again."""
    stop = 0
    dropped = []
    for row in _rows(db):
        if row.start < stop:
            dropped.append((row.start,))
        else:
            stop = row.stop
            yield row
    db.executemany("DELETE FROM outcomes WHERE start = ?", dropped)
