"""The journal: one SQLite file from which a run can be continued.

An outcome is on disk before it is shown to anybody. One thread writes, and commits whatever has
arrived in the meantime, so a disk that is slow to sync gets larger commits, not more of them. All
rows are checked before any task runs.

There are two connections: one that writes, and one that can only read, so that readers never wait
for the disk. If the file is damaged, the reader is closed last, because SQLite would otherwise
delete the log, from which more might be recovered.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import cast

from dq._support.frozen import frozen
from dq.core.records import Batch, Failed, Recorded
from dq.data.decoding import INPUT_KINDS
from dq.errors import BadJournal, DqError, OutputError
from dq.journal import write_ahead_log
from dq.journal.database import (
    FAILED_INPUTS,
    UNREADABLE,
    check,
    check_log,
    create,
    damaged,
    explained,
    is_full,
    open_reader,
    read_about,
    reason,
)
from dq.journal.facts import Facts, compare
from dq.journal.file_lock import Lock
from dq.journal.gathering import gathered
from dq.journal.rows import COLUMNS, Columns, Row, row_of, sealed

RETRY_INTERVAL = 0.5  # seconds between two attempts to write to a full disk
READ_ROWS = 64  # at once


@frozen
class Entry:
    """A record to be written, and its owner."""

    owner: object
    record: Recorded


class Journal:
    """An open journal, locked against other masters.

    Args:
        path: the file; created if it is missing.
        about: the facts about the run, see `facts`; a journal of another run is refused.
        retry_failed: forget the tasks that failed, so that they run again.
        log: called with each line for users.

    Raises:
        BadJournal: it is damaged, in use, or of another run or dq.
        OutputError: the disk is full, or fails.
    """

    def __init__(
        self,
        path: str,
        about: Facts,
        *,
        retry_failed: bool = False,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.path = path
        self.lines = INPUT_KINDS[about["inputs"]].has_lines
        self.error: DqError | None = None
        self.full = False  # whether the disk is full at the moment
        self.version = about.get("version", "")  # of the task's file, when the run began
        self.left = 0  # index after the last recorded task, on opening
        self._log = log
        self._input_of: Callable[[Batch], object] | None = None
        self._file = os.path.realpath(path)
        self._queue: queue.Queue[Entry | None] = queue.Queue()  # no SimpleQueue: see `Supervisor`
        self._writer: threading.Thread | None = None
        self._closing = threading.Event()
        self._closing_lock = threading.Lock()  # guards `close`, which any thread may call
        self._lock = Lock(self._file, path)
        self._db: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        has_log = write_ahead_log.has_log(self._file)
        try:
            self._open(about, has_log, retry_failed)
        except BaseException as error:
            if not has_log:
                self._close_reader()  # so that SQLite deletes its -wal
            self._release()
            if isinstance(error, UNREADABLE):
                raise explained(path, error) from None
            raise

    def _open(self, about: Facts, has_log: bool, retry_failed: bool) -> None:
        db = self._db = sqlite3.connect(self._file, check_same_thread=False, isolation_level=None)
        if db.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
            if os.path.getsize(self._file):  # after SQLite has rolled back
                raise BadJournal(damaged(self.path, "there is no table in it"))
            create(db, about)
        self._reader = open_reader(self._file)
        found = read_about(self.path, self._reader)
        compare(self.path, found.facts, about)
        self.version = found.facts.get("version", "")
        self.left = check(self.path, self._reader)
        check_log(self.path)
        if found.open and not has_log:
            self._log(
                f"{self.path} has lost its -wal file: tasks whose outcomes were in it run again"
            )
        db.execute("PRAGMA journal_mode = WAL").fetchall()
        db.execute("PRAGMA synchronous = FULL")
        db.execute(FAILED_INPUTS)
        if retry_failed:
            db.execute("DELETE FROM failed_inputs")
            db.execute("DELETE FROM outcomes WHERE failure IS NOT NULL")
            [stop] = db.execute("SELECT max(start + count) FROM outcomes").fetchone()
            self.left = stop or 0
        if found.open:
            self._mark(False)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        # This is written to the -wal, which exists from here on, and only then to the file. So the
        # file never says that there must be a -wal while there is none.
        self._mark(True)
        db.execute("PRAGMA wal_checkpoint(FULL)").fetchall()
        self._mark(True)  # again, so that the -wal does not begin with an outcome

    def _mark(self, is_open: bool) -> None:
        """Write whether there must be a -wal."""
        assert self._db is not None
        [text] = self._db.execute("SELECT facts FROM about").fetchone()
        row = sealed(1, int(is_open), text)
        self._db.execute("REPLACE INTO about VALUES (?, ?, ?, ?)", row)

    # Reading

    def rows(self, start: int) -> list[Row]:
        """The next READ_ROWS rows from task `start` on.

        Raises:
            BadJournal: it is damaged.
            OutputError: it cannot be read.
        """
        assert self._reader is not None
        try:
            found = self._reader.execute(
                "SELECT * FROM outcomes WHERE start >= ? AND start < ? ORDER BY start LIMIT ?",
                (start, self.left, READ_ROWS),
            ).fetchall()
        except UNREADABLE as error:
            raise explained(self.path, error) from None
        rows = [Row.from_columns(columns) for columns in found]
        if None in rows or not rows:
            raise BadJournal(damaged(self.path, f"from task {start} on"))
        return cast("list[Row]", rows)

    # Writing

    def start(
        self,
        deliver: Callable[[list[Entry]], None],
        input_of: Callable[[Batch], object] | None = None,
    ) -> None:
        """Start to write records.

        Args:
            deliver: called with the records that were written, or with none if writing has failed.
            input_of: returns a task's input as standard data types.
        """
        self._input_of = input_of
        self._writer = threading.Thread(
            target=self._write, args=(deliver,), name="dq-journal", daemon=True
        )
        self._writer.start()

    def add(self, entry: Entry) -> None:
        """Queue a record to be written."""
        self._queue.put(entry)

    def _write(self, deliver: Callable[[list[Entry]], None]) -> None:
        try:
            for entries in gathered(self._queue):
                rows = [row_of(entry.record, self.lines).to_columns() for entry in entries]
                if not self._commit(rows, list(self._failed_inputs(entries))):
                    return
                deliver(entries)
        except Exception as error:  # any error: the readers must learn of it
            self.error = OutputError(f"cannot write the journal {self.path}: {reason(error)}")
            deliver([])

    def _failed_inputs(self, entries: list[Entry]) -> Iterator[Columns]:
        """The rows for the table of failed inputs."""
        if self._input_of is None:
            return
        for entry in entries:
            batch = entry.record.batch
            if not isinstance(entry.record.outcome, Failed):
                continue
            with contextlib.suppress(Exception):  # any error: the outcome matters more
                text = _text_of_input(self._input_of(batch))
                if text is not None:
                    yield sealed(batch.start, text)

    def _commit(self, rows: list[Columns], failed: list[Columns]) -> bool:
        """Write rows, and wait while the disk is full. Returns False if the journal is closed."""
        while True:
            try:
                self._insert(rows, failed)
            except sqlite3.Error as error:
                if not is_full(self._file, error):
                    raise
            else:
                if self.full:
                    self._log(f"there is space again for {self.path}; going on")
                self.full = False
                return True
            if not self.full:
                self._log(
                    f"no space left for {self.path}: no more tasks are started until there is"
                )
            self.full = True
            if self._closing.wait(RETRY_INTERVAL):
                return False

    def _insert(self, rows: list[Columns], failed: Sequence[Columns] = ()) -> None:
        assert self._db is not None
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(f"INSERT INTO outcomes VALUES ({', '.join('?' * COLUMNS)})", rows)
            self._db.executemany("REPLACE INTO failed_inputs VALUES (?, ?, ?)", failed)
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Write what is left, if there is room, and release the journal."""
        with self._closing_lock:
            if self._db is None:
                return
            self._closing.set()
            if self._writer is not None:
                self._queue.put(None)
                self._writer.join()
            if self.error is None and self._is_marked_closed():
                self._close_reader()  # otherwise `_release` keeps the -wal
            self._release()

    def _is_marked_closed(self) -> bool:
        try:
            self._mark(False)
        except sqlite3.Error:
            return False
        return True

    def _release(self) -> None:
        """Close everything. A reader that is still open is closed last, which keeps the -wal."""
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None
        self._close_reader()
        self._lock.release()

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def _text_of_input(value: object) -> str | None:
    """An input as JSON, for users and for another run; None if it has no JSON form."""
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None
