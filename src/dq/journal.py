"""The journal: one SQLite file that a run can be continued from.

What is on record is written before anybody is shown it. One thread writes; it commits what has
come together in the meantime, so that a disk that takes long to sync makes for larger commits and
not for more of them. Each row has a checksum of its own, since SQLite's pages have none.

A row stands for consecutive tasks: their outcome, a digest of their inputs, and a short checksum
of each input, by which a changed one is found.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import queue
import sqlite3
import threading
import time
import zlib
from array import array
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from dq import inputs
from dq.errors import BadJournal, InputChanged, OutputError
from dq.inputs import SCALARS
from dq.records import Batch, Done, Failed, Failure, Outcome, Recorded

FORMAT = 1
COMMIT_EVERY = 0.05  # seconds
COMMIT_ROWS = 1000
RETRY = 0.5  # seconds between two attempts to write to a full disk

SCHEMA = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE outcomes (
    start INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    worker TEXT NOT NULL,
    outcome BLOB NOT NULL,
    failure TEXT,
    seconds REAL NOT NULL,
    inputs BLOB NOT NULL,
    sums BLOB NOT NULL,
    checksum BLOB NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class Row:
    """What the journal has of consecutive tasks.

    Args:
        start: index of the first.
        count: how many.
        attempts: how often they were started on the record.
        worker: who ran the last attempt.
        outcome: theirs.
        inputs: digest of their inputs.
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

    def to_columns(self) -> tuple[object, ...]:
        """The columns of the table, with a checksum."""
        outcome = self.outcome
        blob, failure = b"", None
        if isinstance(outcome, Done):
            blob = outcome.blob
        else:
            cause = outcome.failure
            failure = json.dumps([cause.type, cause.message, cause.traceback])
        columns = (
            self.start, self.count, self.attempts, self.worker, blob, failure,
            outcome.seconds, self.inputs, self.sums,
        )  # fmt: skip
        return (*columns, _checksum(columns))

    @classmethod
    def from_columns(cls, columns: Sequence[object]) -> Row:
        """The inverse.

        Raises:
            BadJournal: the checksum is another one.
        """
        *values, checksum = columns
        if _checksum(tuple(values)) != checksum:
            raise BadJournal(f"the journal is damaged at task {values[0]}")
        start, count, attempts, worker, blob, failure, seconds, inputs, sums = values
        outcome: Outcome = (
            Done(count, blob, seconds)  # type: ignore[arg-type]  # as the checksum has it
            if failure is None
            else Failed(Failure(*json.loads(failure)), seconds)  # type: ignore[arg-type]
        )
        return cls(start, count, attempts, worker, outcome, inputs, sums)  # type: ignore[arg-type]


def _checksum(columns: tuple[object, ...]) -> bytes:
    """Over every column, with its type and length, so that nothing can slip from one to another."""
    digest = hashlib.blake2b(digest_size=16)
    for column in columns:
        data = column if isinstance(column, bytes) else repr(column).encode()
        digest.update(b"%c%d:" % (isinstance(column, bytes), len(data)))
        digest.update(data)
    return digest.digest()


def parts_of(items: Sequence[object]) -> list[bytes]:
    """Inputs as bytes: lines as they are, values as what stands for them."""
    return [
        item
        if type(item) is bytes
        else repr(item).encode()
        if type(item) in SCALARS
        else pickle.dumps(item)
        for item in items
    ]


def digest_of(parts: Sequence[bytes]) -> tuple[bytes, bytes]:
    """A digest of inputs, and four bytes for each to find a changed one by."""
    digest = hashlib.blake2b(array("Q", map(len, parts)).tobytes(), digest_size=16)
    digest.update(b"".join(parts))
    return digest.digest(), array("I", map(zlib.crc32, parts)).tobytes()


def changed(parts: Sequence[bytes], row: Row) -> int | None:
    """The index of the first input that is not what it was; None where none has changed.

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


def row_of(record: Recorded) -> Row:
    """What is written for a record."""
    batch = record.batch
    items = inputs.load(batch.blob)[batch.skip : batch.skip + batch.count]
    digest, sums = digest_of(parts_of(items))
    return Row(
        batch.start, batch.count, record.attempts, record.worker, record.outcome, digest, sums
    )


class Journal:
    """An open journal; nobody else can open it meanwhile.

    Args:
        path: the file; made where there is none.
        about: what the run is, as far as it decides what its results are; a journal of another
            run is refused.
        retry_failed: forget the tasks that failed, so that they run again.
        log: told, in one line, what people should know.

    Raises:
        BadJournal: damaged, in use, of another run or another dq.
    """

    def __init__(
        self,
        path: str,
        about: Mapping[str, str],
        *,
        retry_failed: bool = False,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.path = path
        self._log = log
        self._lock_file = _locked(path)
        self._db = self._connect()
        self._queue: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self.error: OutputError | None = None
        self.full = False  # whether the disk is, just now
        self._writer: threading.Thread | None = None
        try:
            self._check(about)
            if retry_failed:
                self._db.execute("DELETE FROM outcomes WHERE failure IS NOT NULL")
                self._db.commit()
            rows = self._db.execute("SELECT start, count FROM outcomes ORDER BY start")
            self.ranges: list[tuple[int, int]] = [(start, start + count) for start, count in rows]
        except sqlite3.Error as error:
            self.close()
            raise BadJournal(_damaged(path, error)) from None
        except BaseException:
            self.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
        with contextlib.suppress(sqlite3.Error):  # a damaged file is found by `_check`
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
        return db

    def _check(self, about: Mapping[str, str]) -> None:
        """Make a new journal, or see that an old one is of this run."""
        db = self._db
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'about'").fetchone():
            if os.path.getsize(self.path) and db.execute("SELECT 1 FROM sqlite_master").fetchone():
                raise BadJournal(f"{self.path} is an SQLite file, but no journal of dq")
            db.execute("BEGIN IMMEDIATE")
            for statement in SCHEMA.split(";"):
                db.execute(statement)
            facts = {"format": str(FORMAT), **about}
            db.executemany("INSERT INTO about VALUES (?, ?)", facts.items())
            db.execute("COMMIT")
            return
        check_format(self.path, db)
        then = dict(db.execute("SELECT key, value FROM about"))
        for key, value in about.items():
            if then.get(key) != value:
                raise BadJournal(
                    f"{self.path} is the journal of another run: its {key} is"
                    f" {then.get(key)!r}, not {value!r}; give another --journal"
                )

    # Reading

    def row(self, start: int) -> Row:
        """What is on record from task `start` on.

        Raises:
            BadJournal: the row is damaged.
        """
        try:
            columns = self._db.execute(
                "SELECT * FROM outcomes WHERE start = ?", (start,)
            ).fetchone()
        except sqlite3.Error as error:
            raise BadJournal(_damaged(self.path, error)) from None
        if columns is None:
            raise BadJournal(f"{self.path} is damaged at task {start}")
        return Row.from_columns(columns)

    # Writing

    def start(self, deliver: Callable[[list[Entry]], None]) -> None:
        """Let records be written from now on; `deliver` is told of those that are on disk."""
        self._writer = threading.Thread(
            target=self._write, args=(deliver,), name="dq-journal", daemon=True
        )
        self._writer.start()

    def add(self, entry: Entry) -> None:
        """Have a record written soon."""
        self._queue.put(entry)

    def _write(self, deliver: Callable[[list[Entry]], None]) -> None:
        last = 0.0
        while True:
            entries, ended = self._gather(last)
            if entries:
                self._commit([row_of(entry.record).to_columns() for entry in entries])
                last = time.monotonic()
                deliver(entries)
            if ended:
                return

    def _gather(self, last: float) -> tuple[list[Entry], bool]:
        """What there is to commit, at least COMMIT_EVERY after the last time."""
        entries: list[Entry] = []
        entry = self._queue.get()
        until = last + COMMIT_EVERY
        while entry is not None:
            entries.append(entry)
            left = until - time.monotonic()
            if len(entries) >= COMMIT_ROWS:
                return entries, False
            try:
                entry = self._queue.get(timeout=left) if left > 0 else self._queue.get_nowait()
            except queue.Empty:
                return entries, False
        return entries, True

    def _commit(self, rows: list[tuple[object, ...]]) -> None:
        """Write rows, however long the disk is full; give up on any other failure."""
        while True:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany(f"INSERT INTO outcomes VALUES ({', '.join('?' * 10)})", rows)
                self._db.execute("COMMIT")
                if self.full:
                    self._log(f"there is room again for {self.path}; going on")
                self.full = False
                return
            except sqlite3.Error as error:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                if "full" not in str(error):
                    self.error = OutputError(f"cannot write the journal {self.path}: {error}")
                    raise self.error from None
                if not self.full:
                    self._log(f"no room for {self.path}: nothing new goes out until there is")
                self.full = True
                time.sleep(RETRY)

    def close(self) -> None:
        """Write what is left, and let others open it."""
        if self._writer is not None:
            self._queue.put(None)
            if not self.full:
                self._writer.join()
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
        self._lock_file.close()


@dataclass(frozen=True, slots=True)
class Entry:
    """A record on its way to the disk, and whose it is."""

    owner: object
    record: Recorded


class Replay:
    """Takes a job's inputs past what the journal has of them.

    Args:
        journal: an open one.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._ranges = deque(journal.ranges)
        self._items: list[object] = []

    def add(self, owner: object, record: Recorded) -> None:
        """Have a record written soon."""
        self.journal.add(Entry(owner, record))

    def missing(self, index: int) -> int:
        """How many inputs, from the one at `index` on, the next record still needs."""
        if not self._ranges or index < self._ranges[0][0]:
            return 0
        return self._ranges[0][1] - index

    def room(self, index: int) -> int | None:
        """How many inputs may be cut before the next record; None for any number."""
        return self._ranges[0][0] - index if self._ranges else None

    @property
    def left(self) -> int:
        """Tasks on record beyond the inputs taken so far."""
        return self._ranges[-1][1] if self._ranges else 0

    def take(self, job: str, items: list[object]) -> Recorded | None:
        """The next record, once all its inputs are there.

        Raises:
            InputChanged: one of them has changed.
            BadJournal: the record is damaged.
        """
        self._items += items
        start, stop = self._ranges[0]
        if len(self._items) < stop - start:
            return None
        row = self.journal.row(start)
        index = changed(parts_of(self._items), row)
        if index is not None:
            raise InputChanged(index)
        batch = Batch(job, start, row.count, inputs.dump(self._items))
        self._ranges.popleft()
        self._items = []
        return Recorded(batch, row.outcome, row.attempts, row.worker)


def check_format(path: str, db: sqlite3.Connection) -> None:
    """Refuse a journal that this dq does not read.

    Raises:
        BadJournal: it is of another format.
    """
    row = db.execute("SELECT value FROM about WHERE key = 'format'").fetchone()
    if row is None or row[0] != str(FORMAT):
        found = row[0] if row else "unknown"
        raise BadJournal(
            f"{path} has journal format {found}, this dq reads {FORMAT}; use the dq that wrote it"
        )


def _locked(path: str) -> BinaryIO:
    """The file, locked for this process: the lock goes when the process does, however it ends."""
    try:
        file = open(path, "ab")  # noqa: SIM115  # closed by Journal.close
    except OSError as error:
        raise BadJournal(f"cannot open the journal {path}: {error.strerror}") from None
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        pass  # Windows: SQLite's own locks have to do
    except OSError:
        file.close()
        raise BadJournal(f"the journal {path} is in use by another master") from None
    return file


def _damaged(path: str, error: sqlite3.Error) -> str:
    return (
        f"{path} is damaged, or no journal ({error}); `dq journal {path} --recover NEW` saves what"
        " can be saved"
    )
