"""The rows of a serving master's file, as records, and the statements that read and write them."""

from __future__ import annotations

import json
import pickle
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from dq._support.frozen import cast, frozen
from dq._support.spans import Span
from dq.core.records import Done, Outcome, Reading, Recorded
from dq.errors import BadJournal
from dq.functions.spec import JobSpec
from dq.journal.rows import is_whole, outcome_columns, outcome_from, sealed
from dq.security.safe_pickle import safe_loads
from dq.service.options import JobOptions
from dq.service.specs import from_client

RECEIVING, OPEN, DONE, FAILED = "receiving", "open", "done", "failed"
CANCELLED, STOPPED = "cancelled", "stopped"
ENDED = (DONE, FAILED, CANCELLED, STOPPED)
FACTS = ("key", "id", "name", "task", "spec", "functions", "options", "submitted")


@frozen
class JobRow:
    """A job as it is on disk.

    Args:
        key: the number of its rows, which is never used again.
        id: what its submitter calls it.
        number: what people call it; None until all of its inputs are there.
        name: likewise, if it has one.
        task: what it calls, for people.
        options: what its submitter has asked for.
        submitted: when it was begun, in seconds of the wall clock.
        state: one of the names above.
        reason: why it ended early.
        total: how many inputs it has.
        done, failed: how many outcomes of each kind it has.
        ended: when it ended, in seconds of the wall clock.
    """

    key: int
    id: str
    number: int | None
    name: str
    task: str
    options: JobOptions
    submitted: float
    state: str
    reason: str
    total: int
    done: int
    failed: int
    ended: float | None


@frozen
class OutcomeRow:
    """The outcome of consecutive tasks of a job."""

    seq: int
    start: int
    count: int
    attempts: int
    worker: str
    outcome: Outcome

    @property
    def stop(self) -> int:
        return self.start + self.count


# Jobs


def add_job(
    db: sqlite3.Connection, id: str, spec: JobSpec, functions: bytes | None, options: JobOptions
) -> int:
    """Add a job whose inputs will follow. Returns its key; adding it again changes nothing."""
    found = db.execute("SELECT key FROM jobs WHERE id = ?", (id,)).fetchone()
    if found is not None:
        return int(found[0])
    db.execute("INSERT INTO jobs (id, name, task, spec, options, submitted, checksum, state)"
               " VALUES ('', '', '', '', '', 0, '', '')")  # fmt: skip
    [key] = db.execute("SELECT last_insert_rowid()").fetchone()
    facts = (
        key, id, options.name, str(spec.ref), pickle.dumps(spec.to_wire()), functions,
        json.dumps(options.to_wire()), time.time(),
    )  # fmt: skip
    row = dict(zip((*FACTS, "checksum"), sealed(*facts), strict=True))
    columns = ", ".join(f"{name} = :{name}" for name in row)
    db.execute(f"UPDATE jobs SET {columns}, state = '{RECEIVING}' WHERE key = :key", row)
    return int(key)


def jobs(db: sqlite3.Connection, path: str) -> Iterator[JobRow]:
    """All jobs, in the order in which they were begun.

    Raises:
        BadJournal: one is damaged.
    """
    names = ", ".join((*FACTS, "checksum"))
    for row in db.execute(
        f"SELECT {names}, number, state, reason, total, done, failed, ended FROM jobs ORDER BY key"
    ):
        facts, (number, state, reason, total, done, failed, ended) = row[:9], row[9:]
        if not (is_whole(facts) and _can_be(state, total, done, failed)):
            raise BadJournal(f"{path} is damaged: what it says of job {number or facts[0]}")
        key, id, name, task, _, _, options, submitted, _ = facts
        yield JobRow(
            key=key, id=id, number=number, name=name, task=task,
            options=JobOptions.from_wire(json.loads(options)), submitted=submitted, state=state,
            reason=reason, total=total, done=done, failed=failed, ended=ended,
        )  # fmt: skip


def _can_be(state: str, total: int, done: int, failed: int) -> bool:
    """Whether a job's figures agree with each other, which have no checksum."""
    if state in (DONE, FAILED):
        return done + failed == total and (failed > 0) == (state == FAILED)
    return state in (RECEIVING, OPEN, CANCELLED, STOPPED) and 0 <= done + failed <= total


def spec_of(db: sqlite3.Connection, key: int) -> JobSpec:
    """A job's spec, with the functions that its submitter has sent."""
    wire, functions = db.execute(
        "SELECT spec, functions FROM jobs WHERE key = ?", (key,)
    ).fetchone()
    return from_client(safe_loads(wire), functions)


def reading_of(db: sqlite3.Connection, key: int) -> Reading:
    """How to make values of a job's inputs. The functions, which may be large, are not read."""
    [wire] = db.execute("SELECT spec FROM jobs WHERE key = ?", (key,)).fetchone()
    return JobSpec.from_wire(cast("tuple[object, ...]", safe_loads(wire))).reading


def commit_job(db: sqlite3.Connection, key: int, blocks: int, total: int) -> int | None:
    """Note that all of a job's inputs are there. Returns its number, also when it is noted again;
    None if they are not there."""
    [number] = db.execute("SELECT number FROM jobs WHERE key = ?", (key,)).fetchone()
    if number is not None:
        return int(number)
    found = db.execute(
        "SELECT count(*), coalesce(sum(count), 0) FROM blocks WHERE job = ?", (key,)
    ).fetchone()
    if found != (blocks, total):
        return None
    db.execute("UPDATE master SET last_number = last_number + 1")
    [number] = db.execute("SELECT last_number FROM master").fetchone()
    db.execute(
        "UPDATE jobs SET number = ?, total = ?, state = ? WHERE key = ?", (number, total, OPEN, key)
    )
    return int(number)


def end_job(db: sqlite3.Connection, key: int, reason: str) -> str | None:
    """Note how a job has ended, by the outcomes that are there. Returns its state; None if it goes
    on, because tasks of it are to be run again, or has ended before.

    Args:
        reason: why it has ended, if it lacks outcomes; "" if it must not lack any.
    """
    row = db.execute("SELECT state, total, done, failed FROM jobs WHERE key = ?", (key,)).fetchone()
    if row is None or row[0] != OPEN:
        return None
    _, total, done, failed = row
    if done + failed < total and not reason:
        return None
    state = STOPPED if done + failed < total else FAILED if failed else DONE
    _set_state(db, key, state, reason if state == STOPPED else "")
    return state


def cancel_job(db: sqlite3.Connection, key: int, reason: str) -> bool:
    """Note that a job was cancelled. Returns False if it had ended before."""
    row = db.execute("SELECT state FROM jobs WHERE key = ?", (key,)).fetchone()
    if row is None or row[0] != OPEN:
        return False
    _set_state(db, key, CANCELLED, reason)
    return True


def reopen_job(db: sqlite3.Connection, key: int) -> bool:
    """Note that a job which has ended early goes on. Returns False if it has not."""
    row = db.execute("SELECT state FROM jobs WHERE key = ?", (key,)).fetchone()
    if row is None or row[0] not in (CANCELLED, STOPPED):
        return False
    _set_state(db, key, OPEN)
    return True


def _set_state(db: sqlite3.Connection, key: int, state: str, reason: str = "") -> None:
    ended = time.time() if state in ENDED else None
    db.execute(
        "UPDATE jobs SET state = ?, reason = ?, ended = ? WHERE key = ?",
        (state, reason, ended, key),
    )


def forget(db: sqlite3.Connection, key: int) -> bool:
    """Remove all that there is of a job. Returns False if it goes on."""
    row = db.execute("SELECT state FROM jobs WHERE key = ?", (key,)).fetchone()
    if row is not None and row[0] == OPEN:
        return False
    for table in ("blocks", "outcomes", "tries", "lines"):
        db.execute(f"DELETE FROM {table} WHERE job = ?", (key,))
    db.execute("DELETE FROM jobs WHERE key = ?", (key,))
    return True


# Inputs


def add_block(db: sqlite3.Connection, key: int, number: int, count: int, data: bytes) -> None:
    """Add a block of inputs; adding it again changes nothing. The blocks of a job come in order."""
    [first] = db.execute(
        "SELECT coalesce(max(first + count), 0) FROM blocks WHERE job = ? AND number < ?",
        (key, number),
    ).fetchone()
    row = sealed(key, number, first, count, data)
    db.execute("INSERT OR IGNORE INTO blocks VALUES (?, ?, ?, ?, ?, ?)", row)


def count_blocks(db: sqlite3.Connection, key: int) -> int:
    """How many blocks of a job there are."""
    [count] = db.execute("SELECT count(*) FROM blocks WHERE job = ?", (key,)).fetchone()
    return int(count)


def block_with(db: sqlite3.Connection, key: int, index: int) -> tuple[int, bytes]:
    """The block that has an input: the index of its first one, and its data.

    Raises:
        BadJournal: it is damaged or missing.
    """
    row = db.execute(
        "SELECT * FROM blocks WHERE job = ? AND first <= ? ORDER BY first DESC LIMIT 1",
        (key, index),
    ).fetchone()
    if row is None or not is_whole(row) or row[0] != key or not row[2] <= index < row[2] + row[3]:
        raise BadJournal(f"the input of task {index} is damaged or missing on the master's disk")
    return int(row[2]), bytes(row[4])


# Outcomes


def add_outcome(db: sqlite3.Connection, key: int, record: Recorded, before: int) -> bool:
    """Add the outcome of tasks of a job. Returns False if the job was forgotten in the meantime, or
    has an outcome of them.

    Args:
        before: how many attempts there were before the task was run again on request.
    """
    if db.execute("SELECT 1 FROM jobs WHERE key = ?", (key,)).fetchone() is None:
        return False
    batch = record.batch
    columns = outcome_columns(record.worker, record.outcome)
    row = sealed(key, batch.start, batch.count, record.attempts + before, *columns)
    added = db.execute(
        "INSERT OR IGNORE INTO outcomes (job, start, count, attempts, worker, outcome, failure,"
        " seconds, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        row,
    ).rowcount
    if added:
        column = "done" if isinstance(record.outcome, Done) else "failed"
        db.execute(f"UPDATE jobs SET {column} = {column} + ? WHERE key = ?", (batch.count, key))
    return bool(added)


def spans(db: sqlite3.Connection, key: int) -> list[Span]:
    """The ranges of a job's tasks that have an outcome, in order."""
    found: list[Span] = []
    for start, count in db.execute(
        "SELECT start, count FROM outcomes WHERE job = ? ORDER BY start", (key,)
    ):
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], start + count)
        else:
            found.append((start, start + count))
    return found


_OUTCOMES = (
    "SELECT seq, job, start, count, attempts, worker, outcome, failure, seconds, checksum FROM"
    " outcomes WHERE job = ? "
)


def outcomes_from(db: sqlite3.Connection, key: int, start: int) -> Iterator[OutcomeRow]:
    """Outcomes in the order of the inputs, from those of task `start` on."""
    query = _OUTCOMES + "AND start >= ? ORDER BY start"
    return _ascending(_rows(db.execute(query, (key, start)), key), lambda row: row.start, start)


def outcomes_after(db: sqlite3.Connection, key: int, seq: int) -> Iterator[OutcomeRow]:
    """Outcomes in the order in which they came, after the one with this number."""
    query = _OUTCOMES + "AND seq > ? ORDER BY seq"
    return _ascending(_rows(db.execute(query, (key, seq)), key), lambda row: row.seq, seq + 1)


def outcome_of(db: sqlite3.Connection, key: int, index: int) -> OutcomeRow | None:
    """The outcome that a task has, perhaps together with its neighbours."""
    query = _OUTCOMES + "AND start <= ? ORDER BY start DESC LIMIT 1"
    for row in _rows(db.execute(query, (key, index)), key):
        return row if index < row.stop else None
    return None


def failures_from(db: sqlite3.Connection, key: int, start: int) -> Iterator[OutcomeRow]:
    """The outcomes of failed tasks, from task `start` on."""
    query = _OUTCOMES + "AND failure IS NOT NULL AND start >= ? ORDER BY start"
    return _ascending(_rows(db.execute(query, (key, start)), key), lambda row: row.start, start)


def _ascending(
    found: Iterable[OutcomeRow], place: Callable[[OutcomeRow], int], least: int
) -> Iterator[OutcomeRow]:
    """Rows that an index has found, which has no checksum. So it may be damaged, and find others
    than it should."""
    for row in found:
        if place(row) < least:
            raise BadJournal("an index of outcomes is damaged on the master's disk")
        least = place(row) + 1
        yield row


def _rows(cursor: Iterable[Sequence[Any]], key: int) -> Iterator[OutcomeRow]:
    for seq, *columns in cursor:
        if not is_whole(columns) or columns[0] != key:
            raise BadJournal(f"the outcome of task {columns[1]} is damaged on the master's disk")
        _, start, count, attempts, worker, blob, failure, seconds, _ = columns
        yield OutcomeRow(
            seq=seq,
            start=start,
            count=count,
            attempts=attempts,
            worker=worker,
            outcome=outcome_from(count, blob, failure, seconds),
        )


def drop_failures(db: sqlite3.Connection, key: int, ids: Sequence[int] | None) -> list[int]:
    """Remove the outcomes of failed tasks, so that they run again; of all of them if `ids` is None.
    Returns which tasks these are."""
    found = db.execute(
        "SELECT start, attempts FROM outcomes WHERE job = ? AND failure IS NOT NULL ORDER BY start",
        (key,),
    ).fetchall()
    if ids is not None:
        wanted = set(ids)
        found = [one for one in found if one[0] in wanted]
    db.executemany("REPLACE INTO tries VALUES (?, ?, ?)", [(key, *one) for one in found])
    db.executemany(
        "DELETE FROM outcomes WHERE job = ? AND start = ? AND failure IS NOT NULL",
        [(key, start) for start, _ in found],
    )
    db.execute("UPDATE jobs SET failed = failed - ? WHERE key = ?", (len(found), key))
    if found:
        _set_state(db, key, OPEN)
    return [start for start, _ in found]


def attempts_before(db: sqlite3.Connection, key: int) -> dict[int, int]:
    """How many attempts tasks had had when they were last run again on request."""
    return dict(db.execute("SELECT start, attempts FROM tries WHERE job = ?", (key,)).fetchall())


# What tasks have printed


def add_lines(db: sqlite3.Connection, key: int, lines: Sequence[str], most: int) -> None:
    """Add lines that a job's tasks have printed, and drop the oldest beyond `most`."""
    if db.execute("SELECT 1 FROM jobs WHERE key = ?", (key,)).fetchone() is None:
        return
    db.executemany("INSERT INTO lines (job, text) VALUES (?, ?)", [(key, one) for one in lines])
    db.execute(
        "DELETE FROM lines WHERE job = ? AND seq <= (SELECT seq FROM lines WHERE job = ?"
        " ORDER BY seq DESC LIMIT 1 OFFSET ?)",
        (key, key, most),
    )


def lines_after(db: sqlite3.Connection, key: int, seq: int, most: int) -> list[tuple[int, str]]:
    """The next lines that a job's tasks have printed."""
    return db.execute(
        "SELECT seq, text FROM lines WHERE job = ? AND seq > ? ORDER BY seq LIMIT ?",
        (key, seq, most),
    ).fetchall()
