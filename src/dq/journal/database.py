"""A journal's SQLite file: its tables, and checks for damage."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import urllib.parse
from collections.abc import Iterator

from dq._support.frozen import frozen
from dq.errors import BadJournal, DqError, OutputError
from dq.journal.facts import Facts
from dq.journal.rows import Columns, is_whole, sealed
from dq.journal.write_ahead_log import PAGE, unread_commits

FORMAT = 1
APPLICATION = 0x64716A6C  # "dqjl", in the file's header
SCANT_SPACE = 1 << 20  # free bytes below which any write error counts as a full disk

# The facts about the run are in two tables, and so on two pages: no row is of use without them.
ABOUT = ("about", "about_again")
# The inputs of failed tasks, as JSON. Older journals do not have this table.
FAILED_INPUTS = """CREATE TABLE IF NOT EXISTS failed_inputs
    (start INTEGER PRIMARY KEY, input TEXT NOT NULL, checksum BLOB NOT NULL)"""
SCHEMA = f"""
PRAGMA page_size = {PAGE};
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

# Errors from reading a damaged file. SQLite's messages may quote bytes that are not UTF-8.
UNREADABLE = (sqlite3.Error, UnicodeDecodeError)


def create(db: sqlite3.Connection, about: Facts) -> None:
    """Make an empty database an empty journal, in one transaction."""
    for statement in SCHEMA.split(";"):
        db.execute(statement)
    set_about(db, about)
    db.execute("COMMIT")


def set_about(db: sqlite3.Connection, about: Facts) -> None:
    """Write the facts about the run."""
    row = sealed(1, 0, json.dumps(dict(about)))
    for table in ABOUT:
        db.execute(f"REPLACE INTO {table} VALUES (?, ?, ?, ?)", row)


@frozen
class About:
    """What a journal notes about itself.

    Args:
        facts: the facts about the run, see `facts.facts`.
        open: whether a master has it open, or died while it was open.
    """

    facts: Facts
    open: bool


def check_log(path: str) -> None:
    """Refuse an open journal if SQLite cannot read its -wal to the end.

    Raises:
        BadJournal: it is damaged.
    """
    if unread_commits(os.path.realpath(path)) > 1:
        raise BadJournal(damaged(path, "its -wal cannot be read to the end"))


def open_reader(path: str, *, alone: bool = False) -> sqlite3.Connection:
    """Open a connection that changes nothing. If the file is `alone`, it has no -wal and none is
    made, so the folder may be read-only.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    how = "immutable=1" if alone else "mode=ro"
    url = f"file:{urllib.parse.quote(os.path.abspath(path))}?{how}"
    db = sqlite3.connect(url, uri=True, check_same_thread=False, isolation_level=None)
    db.text_factory = lambda data: data.decode(errors="replace")  # the checksum shows damage
    return db


def read_about(path: str, db: sqlite3.Connection) -> About:
    """Read what a journal notes about itself.

    Raises:
        BadJournal: it is not a journal, or of another dq, or damaged.
        sqlite3.Error: it cannot be read.
    """
    if db.execute("PRAGMA application_id").fetchone() != (APPLICATION,):
        raise BadJournal(f"{path} is an SQLite file, but no journal of dq")
    [version] = db.execute("PRAGMA user_version").fetchone()
    if version != FORMAT:
        raise BadJournal(
            f"{path} has journal format {version}, this dq reads {FORMAT}; use the dq that wrote it"
        )
    found = [
        About(facts=json.loads(row[2]), open=bool(row[1]))
        for row in db.execute("SELECT * FROM about")
        if is_whole(row)
    ]
    if not found:
        raise BadJournal(damaged(path, "what it says of its run"))
    return found[0]


def check(path: str, db: sqlite3.Connection) -> int:
    """Check every page and row. Returns the index after the last task.

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
    """The rows of the table of failed inputs, in order; none if there is no such table."""
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'failed_inputs'").fetchone() is None:
        return iter(())
    return db.execute("SELECT * FROM failed_inputs ORDER BY start")


def explained(path: str, error: sqlite3.Error | UnicodeDecodeError) -> DqError:
    """The error to raise for an error of SQLite."""
    text = str(error)
    if is_full(path, error):
        return OutputError(f"no room for the journal {path}")
    if isinstance(error, sqlite3.OperationalError) and any(
        word in text for word in ("disk I/O", "unable to open", "locked", "readonly")
    ):
        return OutputError(f"cannot use the journal {path}: {reason(error)}")
    return BadJournal(damaged(path, text))


def reason(error: Exception) -> str:
    """SQLite's message, and the limit on the size of files, which SQLite does not mention."""
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
    """The message about a damaged journal."""
    return (
        f"{path} is damaged, or no journal ({what}); `dq journal {path} --recover NEW` saves what"
        " can be saved"
    )


def is_full(path: str, error: Exception) -> bool:
    """Whether the disk is full. SQLite only says "disk I/O error" if there is no room for its
    index."""
    if "full" in str(error):
        return True
    try:
        free = shutil.disk_usage(os.path.dirname(path)).free
        return "disk I/O" in str(error) and free < SCANT_SPACE
    except OSError:
        return False
