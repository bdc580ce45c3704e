"""The file in which a serving master keeps its jobs. One thread writes it.

What has to be on disk before somebody is told waits for the commit that has it. Writes that arrive
in the meantime share the next commit, so a disk that is slow to sync gets larger commits, not more
of them.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar, cast

from dq._support.frozen import frozen
from dq.errors import DqError, OutputError
from dq.journal import write_ahead_log
from dq.journal.database import UNREADABLE, explained, is_full, open_reader, reason
from dq.journal.file_lock import Lock
from dq.journal.gathering import gathered
from dq.service.tables import begin_writing, check_header, create

RETRY_INTERVAL_S = 0.5  # between two attempts to write to a full disk
MOST_UNWRITTEN_BYTES = 16 * 1024 * 1024  # of inputs that clients send faster than the disk takes

T = TypeVar("T")
Action = Callable[[sqlite3.Connection], object]


@frozen
class Write:
    """Something to be written.

    Args:
        action: writes it. It may be called again, if the transaction was rolled back.
        then: called with what it has returned, once that is on disk.
        refused: called with the error if there is no room; None to wait for room.
        nbytes: roughly how much it is.
    """

    action: Action
    then: Callable[[object], None]
    refused: Callable[[DqError], None] | None = None
    nbytes: int = 0


class _Refused(Exception):
    """Raised when SQLite cannot take a value of a write, such as a number of 70 bits."""

    def __init__(self, write: Write) -> None:
        self.write = write


def _carry_out(write: Write, db: sqlite3.Connection) -> object:
    try:
        return write.action(db)
    except (TypeError, ValueError, OverflowError) as error:  # UnicodeError is a ValueError
        if write.refused is None:
            raise
        raise _Refused(write) from error


def _transact(db: sqlite3.Connection | None, writes: list[Write]) -> list[object]:
    assert db is not None
    try:
        db.execute("BEGIN IMMEDIATE")
        results = [_carry_out(write, db) for write in writes]
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise
    return results


class Store:
    """The file, locked against other masters.

    Args:
        path: the file; created if it is missing. None for a temporary one.
        log: called with each line for users.

    Raises:
        BadJournal: it is damaged, in use, or something else.
        OutputError: the disk is full, or fails.

    Attributes:
        error: why nothing more can be written; None while all is well.
    """

    def __init__(
        self, path: str | None = None, *, log: Callable[[str], None] = lambda line: None
    ) -> None:
        self.error: DqError | None = None
        self.is_temporary = path is None
        self._folder = tempfile.TemporaryDirectory(prefix="dq-") if path is None else None
        self.path = path or os.path.join(cast("str", self._folder and self._folder.name), "jobs")
        self._log = log
        self._file = os.path.realpath(self.path)
        self._queue: queue.Queue[Write | None] = queue.Queue()
        self._room = threading.Condition()  # guards `_unwritten`
        self._unwritten = 0  # bytes in the queue
        self._is_full = False  # whether the disk was full at the last commit
        self._closing = threading.Event()
        self._closed = False
        self._ending = threading.Lock()  # guards `_has_ended`
        self._has_ended = False  # whether the writer takes nothing more from the queue
        self._reading = threading.Lock()  # held while `_reader` is used
        self._reading_inputs = threading.Lock()  # held while `_inputs_reader` is used
        self._lock = Lock(self._file, self.path)
        self._db: sqlite3.Connection | None = None
        try:
            self._open()
        except BaseException as error:
            self._release()
            if isinstance(error, UNREADABLE):
                raise explained(self.path, error) from None
            raise
        self._writer = threading.Thread(target=self._write, name="dq-jobs-writer", daemon=True)
        self._writer.start()

    def _open(self) -> None:
        had_log = write_ahead_log.has_log(self._file)
        db = self._db = sqlite3.connect(self._file, check_same_thread=False, isolation_level=None)
        if db.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
            create(db)
        check_header(self.path, db)
        if begin_writing(db) and not had_log:
            self._log(
                f"{self.path} has lost its -wal file: jobs and outcomes that were in it are gone,"
                " and those tasks run again"
            )
        self._reader = open_reader(self._file)
        self._inputs_reader = open_reader(self._file)

    @property
    def is_stuck(self) -> bool:
        """Whether nothing can be written at the moment."""
        return self._is_full or self.error is not None

    # Reading, in any thread

    def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Read for a client.

        Raises:
            DqError: it is damaged, or cannot be read.
        """
        with self._reading:
            return self._query(self._reader, query)

    def read_inputs(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Read inputs, which must not wait for what a client reads."""
        with self._reading_inputs:
            return self._query(self._inputs_reader, query)

    def _query(self, db: sqlite3.Connection, query: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return query(db)
        except UNREADABLE as error:
            raise explained(self.path, error) from None

    # Writing, from any thread

    def write(self, action: Action, then: Callable[[object], None] = lambda result: None) -> None:
        """Write something, if need be once there is room."""
        self._queue.put(Write(action, then))

    def ask(
        self,
        action: Callable[[sqlite3.Connection], T],
        then: Callable[[T], None] = lambda result: None,
    ) -> T:
        """Write something, and return what the action returns once it is on disk.

        Args:
            action: writes it.
            then: called before with what it has returned, in the writer's thread: what others have
                written is told in the order in which it is on disk.

        Raises:
            OutputError: it cannot be written.
        """
        future: Future[T] = Future()

        def written(result: object) -> None:
            then(cast("T", result))
            future.set_result(cast("T", result))

        self._put(Write(action, written, future.set_exception))
        return future.result()

    def stream(
        self,
        action: Action,
        then: Callable[[object], None],
        refused: Callable[[DqError], None],
        nbytes: int,
    ) -> None:
        """Write something large, one of many. Waits only if the disk does not keep up."""
        with self._room:
            self._room.wait_for(
                lambda: self._unwritten < MOST_UNWRITTEN_BYTES or self._closing.is_set()
            )
            self._unwritten += nbytes
        self._put(Write(action, then, refused, nbytes))

    def _put(self, write: Write) -> None:
        with self._ending:
            if not self._has_ended:
                self._queue.put(write)
                return
        self._refuse([write], self._why_ended)

    # The writer's thread

    def _write(self) -> None:
        try:
            # Somebody waits for what may be refused.
            for writes in gathered(self._queue, lambda write: write.refused is not None):
                self._commit(writes)
        except Exception as error:  # any error: whoever waits must learn of it
            self.error = OutputError(f"cannot write {self.path}: {reason(error)}")
            self._log(str(self.error))
        finally:
            with self._ending:
                self._has_ended = True
            self._refuse_queued()

    def _commit(self, writes: list[Write]) -> None:
        """Write, and wait while the disk is full, except for what may be refused."""
        while writes:
            try:
                results = _transact(self._db, writes)
            except _Refused as refused:
                writes = [write for write in writes if write is not refused.write]
                self._refuse([refused.write], f"cannot be written: {refused.__cause__}")
                continue
            except sqlite3.Error as error:
                if not is_full(self._file, error):
                    self._refuse(writes, f"cannot write {self.path}: {reason(error)}")
                    raise
                writes = self._refuse(writes, f"no space left for {self.path}")
                self._note_full()
                if writes and self._closing.wait(RETRY_INTERVAL_S):
                    return
                continue
            if self._is_full:
                self._is_full = False
                self._log(f"there is space again for {self.path}; going on")
            self._free(writes)
            self._tell(writes, results)
            return

    def _tell(self, writes: list[Write], results: list[object]) -> None:
        for place, (write, result) in enumerate(zip(writes, results, strict=True)):
            try:
                write.then(result)
            except Exception as error:  # any error: nobody must wait for ever
                self._refuse(writes[place:], f"cannot go on with {self.path}: {reason(error)}")
                raise

    def _note_full(self) -> None:
        if not self._is_full:
            self._is_full = True
            self._log(
                f"no space left for {self.path}: no more tasks of jobs are started until there is"
            )

    def _refuse(self, writes: list[Write], why: str) -> list[Write]:
        """Refuse what may be refused, and return the rest."""
        refused = [write for write in writes if write.refused is not None]
        self._free(refused)
        for write in refused:
            assert write.refused is not None
            write.refused(OutputError(why))
        return [write for write in writes if write.refused is None]

    def _refuse_queued(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                write = self._queue.get_nowait()
                if write is not None:
                    self._refuse([write], self._why_ended)

    @property
    def _why_ended(self) -> str:
        return str(self.error or "the master is closing")

    def _free(self, writes: list[Write]) -> None:
        nbytes = sum(write.nbytes for write in writes)
        if nbytes:
            with self._room:
                self._unwritten -= nbytes
                self._room.notify_all()

    # The end

    def close(self) -> None:
        """Write what is left, if there is room, and release the file."""
        if self._closed:
            return
        self._closed = True
        self._closing.set()
        with self._room:
            self._room.notify_all()
        self._queue.put(None)
        self._writer.join()
        if self.error is None and self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("UPDATE master SET open = 0")
        with self._reading, self._reading_inputs:
            self._reader.close()
            self._inputs_reader.close()
        self._release()

    def _release(self) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
        self._lock.release()
        if self._folder is not None:
            self._folder.cleanup()
