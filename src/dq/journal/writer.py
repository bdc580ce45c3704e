"""The journal: one SQLite file that a run can be continued from.

What is on record is written before anybody is shown it. One thread writes; it commits what has
come together in the meantime, so that a disk that takes long to sync makes for larger commits and
not for more of them. Each row has a checksum of its own, since SQLite's pages have none, and all
of them are looked at before anything runs.

A row stands for consecutive tasks: their outcome, a digest of their inputs, and a short checksum
of each input, by which a changed one is found.

Two connections: one that writes, and one that can only read, so that who reads never waits for a
disk. The reader also outlives the writer where the file is damaged: SQLite would else delete the
log, of which more might be saved.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import queue
import shutil
import sqlite3
import threading
import time
import urllib.parse
import zlib
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO, cast

from dq._support.frozen import frozen
from dq._support.naming import setting
from dq.core.records import Batch, Done, Failed, Failure, Outcome, Reading, Recorded
from dq.data import inputs
from dq.data.inputs import SCALARS
from dq.errors import BadJournal, DqError, InputChanged, OutputError
from dq.journal import write_ahead_log
from dq.security.safe_pickle import safe_loads

FORMAT = 1
APPLICATION = 0x64716A6C  # "dqjl", in the file's header
COMMIT_EVERY = 0.05  # seconds
COMMIT_ROWS = 1000
RETRY = 0.5  # seconds between two attempts to write to a full disk
SCANT = 1 << 20  # bytes of free space below which any failure to write is taken for a full disk
AHEAD = 64  # rows that are read at once

# What the run is stands in two tables, so on two pages: without it no row is of use.
ABOUT = ("about", "about_again")
# The inputs of tasks that failed, as JSON. A journal from before there was this table has none.
FAILED_INPUTS = """CREATE TABLE IF NOT EXISTS failed_inputs
    (start INTEGER PRIMARY KEY, input TEXT NOT NULL, checksum BLOB NOT NULL)"""
SCHEMA = f"""
PRAGMA page_size = {write_ahead_log.PAGE};
BEGIN IMMEDIATE;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT};
CREATE TABLE about (id INTEGER PRIMARY KEY, open INTEGER, facts TEXT, checksum BLOB);
CREATE TABLE about_again (id INTEGER PRIMARY KEY, open INTEGER, facts TEXT, checksum BLOB);
{FAILED_INPUTS};
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
COLUMNS = 10

# What reading a damaged file raises: SQLite's messages may quote of it what is no UTF-8.
UNREADABLE = (sqlite3.Error, UnicodeDecodeError)

Columns = Sequence[object]
Facts = Mapping[str, str]


@frozen
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

    def to_columns(self) -> Columns:
        """The columns of the table, with a checksum."""
        outcome = self.outcome
        blob, failure = b"", None
        if isinstance(outcome, Done):
            blob = outcome.blob
        else:
            cause = outcome.failure
            failure = json.dumps([cause.type, cause.message, cause.traceback, outcome.retry])
        worker = self.worker.encode(errors="backslashreplace").decode()  # SQLite takes UTF-8 only
        seconds = outcome.seconds + 0.0  # it has no -0.0
        return sealed(
            self.start, self.count, self.attempts, worker, blob, failure, seconds,
            self.inputs, self.sums,
        )  # fmt: skip

    @classmethod
    def from_columns(cls, columns: Columns) -> Row | None:
        """The inverse; None where the checksum is another one."""
        if len(columns) != COLUMNS or not is_whole(columns):
            return None
        start, count, attempts, worker, blob, failure, seconds, inputs, sums, _ = columns
        outcome: Outcome
        if failure is None:
            outcome = Done(count, blob, seconds)  # type: ignore[arg-type]  # by the checksum
        else:
            *words, retry = json.loads(failure)  # type: ignore[arg-type]
            outcome = Failed(Failure(*words), seconds, retry)  # type: ignore[arg-type]
        return cls(start, count, attempts, worker, outcome, inputs, sums)  # type: ignore[arg-type]


def sealed(*columns: object) -> Columns:
    """Columns with their checksum as the last."""
    return (*columns, _checksum(columns))


def is_whole(columns: Columns) -> bool:
    """Whether they are as they were sealed."""
    return columns[-1] == _checksum(columns[:-1])


def _checksum(columns: Columns) -> bytes:
    """Over every column; the lengths of blobs come first, so that nothing can slip from one to
    another."""
    blobs = [column for column in columns if isinstance(column, bytes)]
    head = [(len(c),) if isinstance(c, bytes) else c for c in columns]
    digest = hashlib.blake2b(repr(head).encode(errors="replace"), digest_size=16)
    for blob in blobs:
        digest.update(blob)
    return digest.digest()


# Inputs


def text_of_input(value: object) -> str | None:
    """An input as JSON, for people and for another run; None where it has no such form."""
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None


def facts(
    task: object,
    code: str = "",
    *,
    reading: Reading,
    output: str,
    unpack: bool,
    origin: str = "",
    version: str = "",
) -> Facts:
    """What a run is, as far as it decides what its results are. A task without an import path has
    a digest of its `code`; another one's file has a `version`, which is compared to be told only;
    inputs of a command come from "arguments" or "a file"."""
    about = {"task": str(task), "inputs": reading.kind, "output": output, "unpack": str(unpack)}
    if code:
        about["code"] = code
    if reading.kind == "csv":
        about |= {"columns": ", ".join(map(repr, reading.fields)), "raw": str(reading.raw)}
    if reading.delimiter != ",":
        about["delimiter"] = reading.delimiter
    if reading.field:
        about["field"] = reading.field
    if origin:
        about["origin"] = origin
    if version:
        about["version"] = version
    return about


def part_of(item: object, lines: bool) -> bytes:
    """What stands for an input: a line without its end, which a file's last may lack; a value as
    something that differs for different ones."""
    if lines:
        return cast("bytes", item).removesuffix(b"\n")
    try:
        if type(item) in SCALARS:
            return _text_of(item)
        return inputs.dump_one(item)
    except Exception:
        return b""  # it cannot be pickled, so never went out


def _text_of(scalar: object) -> bytes:
    try:
        return repr(scalar).encode()
    except ValueError:  # an integer of more than 4,300 digits
        return pickle.dumps(scalar)


def _part_again(value: object) -> bytes:
    """The same for a value that has been pickled and unpickled, as what went out may have been: two
    equal strings of one character are then the same, and make another pickle."""
    try:
        value = pickle.loads(inputs.dump_one(value))
    except Exception:
        return b""
    return part_of(value, False)


def parts_in(batch: Batch, lines: bool) -> list[bytes]:
    """The same for inputs that went out, as they did: pickled again, an unpickled value may come
    out otherwise."""
    parts: list[bytes] = []
    for kind, items in inputs.pieces(batch.blob, skip=batch.skip, count=batch.count):
        if kind is inputs.EACH:
            parts += map(_part_of_pickle, items)
        else:
            parts += [part_of(item, lines) for item in items]
    return parts


def _part_of_pickle(piece: bytes) -> bytes:
    """A scalar among other values is pickled, in a batch of scalars it is not."""
    try:
        value = safe_loads(piece)
    except Exception:
        return piece
    return part_of(value, False) if type(value) in SCALARS else piece


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


# The file


class Journal:
    """An open journal; nobody else can open it to write meanwhile.

    Args:
        path: the file; made where there is none.
        about: what the run is, see `facts`; a journal of another run is refused.
        retry_failed: forget the tasks that failed, so that they run again.
        log: told, in one line, what people should know.

    Raises:
        BadJournal: damaged, in use, of another run or another dq.
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
        self.lines = about["inputs"] != "values"
        self.error: DqError | None = None
        self.full = False  # whether the disk is, just now
        self.version = about.get("version", "")  # of the file of its function, when it was begun
        self.left = 0  # index after the last task on record when it was opened
        self._log = log
        self._input_of: Callable[[Batch], object] | None = None
        self._file = os.path.realpath(path)
        self._queue: queue.Queue[Entry | None] = queue.Queue()  # no SimpleQueue: see `Supervisor`
        self._writer: threading.Thread | None = None
        self._closing = threading.Event()
        self._ends = threading.Lock()  # guards the end: whoever comes first closes
        self._lock = Lock(self._file, path)
        self._db: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        has_log = write_ahead_log.has_log(self._file)
        try:
            self._open(about, has_log, retry_failed)
        except BaseException as error:
            if not has_log:
                self._close_reader()  # then SQLite takes away what it has made
            self._let_go()
            if isinstance(error, UNREADABLE):
                raise explained(path, error) from None
            raise

    def _open(self, about: Facts, has_log: bool, retry_failed: bool) -> None:
        db = self._db = sqlite3.connect(self._file, check_same_thread=False, isolation_level=None)
        if db.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
            if os.path.getsize(self._file):  # once SQLite has undone what was begun
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
        # From the -wal, which is not emptied any more, to the file: nowhere in between does the
        # file say that there is a -wal to be missed while there is none.
        self._mark(True)
        db.execute("PRAGMA wal_checkpoint(FULL)").fetchall()
        self._mark(True)  # once more, so that the -wal begins with something that is no outcome

    def _mark(self, is_open: bool) -> None:
        """Note whether there is a -wal that must not be missing."""
        assert self._db is not None
        [text] = self._db.execute("SELECT facts FROM about").fetchone()
        row = sealed(1, int(is_open), text)
        self._db.execute("REPLACE INTO about VALUES (?, ?, ?, ?)", row)

    # Reading

    def rows(self, start: int) -> list[Row]:
        """What is on record from task `start` on: some of it, if it is more.

        Raises:
            BadJournal: it is damaged.
            OutputError: it cannot be read.
        """
        assert self._reader is not None
        try:
            found = self._reader.execute(
                "SELECT * FROM outcomes WHERE start >= ? AND start < ? ORDER BY start LIMIT ?",
                (start, self.left, AHEAD),
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
        """Let records be written from now on.

        Args:
            deliver: told of those that are on disk, and of none when no more can be written.
            input_of: gives a task's input, in standard data types only.
        """
        self._input_of = input_of
        self._writer = threading.Thread(
            target=self._write, args=(deliver,), name="dq-journal", daemon=True
        )
        self._writer.start()

    def add(self, entry: Entry) -> None:
        """Have a record written soon."""
        self._queue.put(entry)

    def _write(self, deliver: Callable[[list[Entry]], None]) -> None:
        try:
            for entries in self._gathered():
                rows = [row_of(entry.record, self.lines).to_columns() for entry in entries]
                if not self._commit(rows, list(self._failed_inputs(entries))):
                    return
                deliver(entries)
        except Exception as error:  # whatever it is: who waits for the records must hear of it
            self.error = OutputError(f"cannot write the journal {self.path}: {_reason(error)}")
            deliver([])

    def _gathered(self) -> Iterator[list[Entry]]:
        """What there is to commit, at least COMMIT_EVERY after the last time, until the end."""
        until = 0.0
        while (entry := self._queue.get()) is not None:
            entries = [entry]
            while entry is not None and len(entries) < COMMIT_ROWS:
                left = until - time.monotonic()
                try:
                    entry = self._queue.get(timeout=max(left, 0.0))
                except queue.Empty:
                    break
                if entry is not None:
                    entries.append(entry)
            yield entries
            if entry is None:
                return
            until = time.monotonic() + COMMIT_EVERY

    def _failed_inputs(self, entries: list[Entry]) -> Iterator[Columns]:
        """What the table of failed inputs has of these records."""
        if self._input_of is None:
            return
        for entry in entries:
            batch = entry.record.batch
            if not isinstance(entry.record.outcome, Failed):
                continue
            with contextlib.suppress(Exception):  # whatever it is, the outcome is what counts
                text = text_of_input(self._input_of(batch))
                if text is not None:
                    yield sealed(batch.start, text)

    def _commit(self, rows: list[Columns], failed: list[Columns]) -> bool:
        """Write rows, however long the disk is full; False where the journal is closed first."""
        while True:
            try:
                self._insert(rows, failed)
            except sqlite3.Error as error:
                if not _is_full(self._file, error):
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
            if self._closing.wait(RETRY):
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
        """Write what is left, if there is room, and let others open it."""
        with self._ends:
            if self._db is None:
                return
            self._closing.set()
            if self._writer is not None:
                self._queue.put(None)
                self._writer.join()
            if self.error is None and self._is_marked_closed():
                self._close_reader()  # else `_let_go` keeps the -wal that should be there
            self._let_go()

    def _is_marked_closed(self) -> bool:
        try:
            self._mark(False)
        except sqlite3.Error:
            return False
        return True

    def _let_go(self) -> None:
        """Close everything: the reader last, unless it is closed already, which keeps the -wal."""
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


def create(db: sqlite3.Connection, about: Facts) -> None:
    """Make an empty journal of an empty database: all of it, or nothing."""
    for statement in SCHEMA.split(";"):
        db.execute(statement)
    set_about(db, about)
    db.execute("COMMIT")


def set_about(db: sqlite3.Connection, about: Facts) -> None:
    """Note what the run is."""
    row = sealed(1, 0, json.dumps(dict(about)))
    for table in ABOUT:
        db.execute(f"REPLACE INTO {table} VALUES (?, ?, ?, ?)", row)


@frozen
class About:
    """What a journal says of itself.

    Args:
        facts: of the run, see `facts`.
        open: whether it is open, or was when its master died.
    """

    facts: Facts
    open: bool


def check_log(path: str) -> None:
    """Refuse a journal of whose -wal SQLite reads the beginning only, once it has been opened.

    Raises:
        BadJournal: it is damaged.
    """
    if write_ahead_log.unread_commits(os.path.realpath(path)) > 1:
        raise BadJournal(damaged(path, "its -wal cannot be read to the end"))


def open_reader(path: str, *, alone: bool = False) -> sqlite3.Connection:
    """A connection that changes nothing; `alone` says that there is no -wal, so that none need be
    made, where perhaps nothing can be.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    how = "immutable=1" if alone else "mode=ro"
    url = f"file:{urllib.parse.quote(os.path.abspath(path))}?{how}"
    db = sqlite3.connect(url, uri=True, check_same_thread=False, isolation_level=None)
    db.text_factory = lambda data: data.decode(errors="replace")  # the checksum tells
    return db


def read_about(path: str, db: sqlite3.Connection) -> About:
    """What a journal says of itself.

    Raises:
        BadJournal: it is none, of another dq, or damaged.
        sqlite3.Error: it cannot be read.
    """
    if db.execute("PRAGMA application_id").fetchone() != (APPLICATION,):
        raise BadJournal(f"{path} is an SQLite file, but no journal of dq")
    [version] = db.execute("PRAGMA user_version").fetchone()
    if version != FORMAT:
        raise BadJournal(
            f"{path} has journal format {version}, this dq reads {FORMAT}; use the dq that wrote it"
        )
    found = [About(json.loads(row[2]), bool(row[1])) for row in _whole_abouts(db)]
    if not found:
        raise BadJournal(damaged(path, "what it says of its run"))
    return found[0]


def _whole_abouts(db: sqlite3.Connection) -> list[tuple[int, int, str, bytes]]:
    return [row for row in db.execute("SELECT * FROM about") if is_whole(row)]


# In the order in which people are told: a CSV file's columns say less than that it is one.
COMPARED = ("task", "inputs", "output", "unpack", "raw", "columns", "delimiter", "field")


def compare(path: str, then: Facts, now: Facts) -> None:
    """See that a journal is of this run.

    Raises:
        BadJournal: it is not.
    """
    another = f"give another {setting('journal')}"
    moved = then.get("origin") not in (None, now.get("origin"))
    for key in COMPARED:
        if then.get(key) != now.get(key):
            places = [
                f" from {facts['origin']}" if moved and key == "inputs" else ""
                for facts in (then, now)
            ]
            raise BadJournal(
                f"{path} is the journal of another run, with {key} {then.get(key)}{places[0]} where"
                f" this one has {now.get(key)}{places[1]}; {another}"
            )
    if moved:
        raise BadJournal(
            f"{path} is the journal of inputs from {then.get('origin')}, and this run's are from"
            f" {now.get('origin')}: give the same inputs in the same way, or {another}"
        )
    if then.get("code") != now.get("code"):
        raise BadJournal(
            f"{path} was made with another {now['task']}: its code, its constants or what it refers"
            f" to have changed since; {another}"
        )


def check(path: str, db: sqlite3.Connection) -> int:
    """Look at every page and row; returns the index after the last task.

    Raises:
        BadJournal: something is damaged.
        sqlite3.Error: it cannot be read.
    """
    [found] = db.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise BadJournal(damaged(path, found))
    stop = 0
    for columns in db.execute("SELECT * FROM outcomes ORDER BY start"):
        if not is_whole(columns) or columns[0] < stop:
            raise BadJournal(damaged(path, f"at task {columns[0]}"))
        stop = columns[0] + columns[1]
    for columns in failed_inputs(db):
        if not is_whole(columns):
            raise BadJournal(damaged(path, f"at the input of task {columns[0]}"))
    return stop


def failed_inputs(db: sqlite3.Connection) -> Iterator[Columns]:
    """The rows of the table of failed inputs, in order, where there is such a table."""
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'failed_inputs'").fetchone() is None:
        return iter(())
    return db.execute("SELECT * FROM failed_inputs ORDER BY start")


def explained(path: str, error: sqlite3.Error | UnicodeDecodeError) -> DqError:
    """What to raise for a failure of SQLite's."""
    text = str(error)
    if _is_full(path, error):
        return OutputError(f"no room for the journal {path}")
    if isinstance(error, sqlite3.OperationalError) and any(
        word in text for word in ("disk I/O", "unable to open", "locked", "readonly")
    ):
        return OutputError(f"cannot use the journal {path}: {_reason(error)}")
    return BadJournal(damaged(path, text))


def _reason(error: Exception) -> str:
    """What SQLite says; with the limit that it may have run into, of which it says nothing."""
    text = str(error)
    if "disk I/O" in text:
        try:
            import resource  # missing on Windows
        except ImportError:
            return text
        limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if limit != resource.RLIM_INFINITY:
            text += f" (no file may be larger than {limit} bytes here: ulimit -f)"
    return text


def damaged(path: str, what: str) -> str:
    """How to say it."""
    return (
        f"{path} is damaged, or no journal ({what}); `dq journal {path} --recover NEW` saves what"
        " can be saved"
    )


def _is_full(path: str, error: Exception) -> bool:
    """Whether it is for want of space: SQLite says "disk I/O error" where its index finds none."""
    if "full" in str(error):
        return True
    try:
        return "disk I/O" in str(error) and shutil.disk_usage(os.path.dirname(path)).free < SCANT
    except OSError:
        return False


class Lock:
    """A file, locked for this process: the lock goes when the process does, however it ends.

    Args:
        path: the file; made where there is none.
        name: what to call it in errors.

    Raises:
        BadJournal: somebody has it, or it cannot be opened.
    """

    held: set[str] = set()  # noqa: RUF012  # by all of this process

    def __init__(self, path: str, name: str) -> None:
        self._path = path
        in_use = BadJournal(f"the journal {name} is in use by another master")
        # Not even opened then: closing any file drops all of a process's locks, SQLite's too.
        if path in self.held:
            raise in_use
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
            raise BadJournal(f"cannot open the journal {name}: it is no regular file")
        try:
            self._file: BinaryIO = open(path, "ab")  # noqa: SIM115  # closed by `release`
        except OSError as error:
            raise BadJournal(f"cannot open the journal {name}: {error.strerror}") from None
        try:
            import fcntl

            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass  # Windows: SQLite's own locks have to do
        except OSError:
            self._file.close()
            raise in_use from None
        self.held.add(path)

    def release(self) -> None:
        """Let others have it."""
        self.held.discard(self._path)
        self._file.close()


@frozen
class Entry:
    """A record on its way to the disk, and whose it is."""

    owner: object
    record: Recorded


def row_of(record: Recorded, lines: bool) -> Row:
    """What is written for a record."""
    batch = record.batch
    digest, sums = digest_of(parts_in(batch, lines))
    return Row(
        batch.start, batch.count, record.attempts, record.worker, record.outcome, digest, sums
    )


def _known(found: dict[str, type]) -> None:
    """The classes of inputs are known where they are replayed."""


class Replay:
    """Takes a job's inputs past what the journal has of them.

    Args:
        journal: an open one.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.left = journal.left
        self._items: list[object] = []
        self._rows: deque[Row] = deque()
        self._nbytes = 0  # of an input, seen last
        self._fetch(0)

    def _fetch(self, start: int) -> None:
        if not self._rows and start < self.left:
            self._rows.extend(self.journal.rows(start))

    def add(self, owner: object, record: Recorded) -> None:
        """Have a record written soon."""
        self.journal.add(Entry(owner, record))

    @property
    def stuck(self) -> bool:
        """Whether nothing can be written just now."""
        return self.journal.full or self.journal.error is not None

    def missing(self, index: int) -> int:
        """How many inputs, from the one at `index` on, the next record still needs."""
        if not self._rows or index < self._rows[0].start:
            return 0
        return self._rows[0].stop - index

    def ahead(self, index: int) -> int:
        """How many inputs to have at hand: what the next record needs, and a megabyte or so."""
        missing = self.missing(index)
        return max(missing, min(1024, 2**20 // max(self._nbytes, 1))) if missing else 0

    def room(self, index: int) -> int | None:
        """How many inputs may be cut before the next record; None for any number."""
        return self._rows[0].start - index if self._rows else None

    def take(self, job: str, items: list[object]) -> Recorded | None:
        """The next record, once all its inputs are there.

        Raises:
            InputChanged: one of them has changed.
            BadJournal: the journal has been damaged since it was opened.
        """
        self._items += items
        row = self._rows[0]
        if len(self._items) < row.count:
            return None
        parts = [part_of(item, self.journal.lines) for item in self._items]
        index = changed(parts, row)
        if index is not None and not self.journal.lines:
            parts = [
                part if zlib.crc32(part) == then else _part_again(item)
                for part, then, item in zip(parts, array("I", row.sums), self._items, strict=True)
            ]
            index = changed(parts, row)
        if index is not None:
            raise InputChanged(index, setting("journal"))
        batch = Batch(job, row.start, row.count, inputs.dump(self._items, define=_known))
        self._nbytes = len(batch.blob) // row.count
        self._rows.popleft()
        self._fetch(row.stop)
        self._items = []
        return Recorded(batch, row.outcome, row.attempts, row.worker)
