"""The tables of a serving master's file.

A row that never changes has a checksum, since SQLite's pages have none. The figures of a job change
with each outcome, so they are in columns of their own, which can be counted again.
"""

from __future__ import annotations

import sqlite3

from dq.errors import BadJournal
from dq.journal.database import APPLICATION as RUN_JOURNAL
from dq.journal.write_ahead_log import PAGE

FORMAT = 1
APPLICATION = 0x64716A73  # "dqjs", in the file's header

SCHEMA = f"""
PRAGMA page_size = {PAGE};
BEGIN IMMEDIATE;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT};
CREATE TABLE master (id INTEGER PRIMARY KEY, open INTEGER NOT NULL, last_number INTEGER NOT NULL);
INSERT INTO master VALUES (1, 0, 0);
CREATE TABLE jobs (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    number INTEGER UNIQUE,
    name TEXT NOT NULL,
    task TEXT NOT NULL,
    spec BLOB NOT NULL,
    functions BLOB,
    options TEXT NOT NULL,
    submitted REAL NOT NULL,
    checksum BLOB NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    total INTEGER NOT NULL DEFAULT 0,
    done INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    ended REAL
);
CREATE TABLE blocks (
    job INTEGER NOT NULL,
    number INTEGER NOT NULL,
    first INTEGER NOT NULL,
    count INTEGER NOT NULL,
    data BLOB NOT NULL,
    checksum BLOB NOT NULL
);
CREATE UNIQUE INDEX blocks_in_order ON blocks (job, number);
CREATE UNIQUE INDEX blocks_by_input ON blocks (job, first);
CREATE TABLE outcomes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    job INTEGER NOT NULL,
    start INTEGER NOT NULL,
    count INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    worker TEXT NOT NULL,
    outcome BLOB NOT NULL,
    failure TEXT,
    seconds REAL NOT NULL,
    checksum BLOB NOT NULL
);
CREATE UNIQUE INDEX one_outcome ON outcomes (job, start);
CREATE INDEX outcomes_in_order ON outcomes (job, start, count);
CREATE INDEX outcomes_as_they_came ON outcomes (job, seq);
CREATE INDEX failures_in_order ON outcomes (job, start) WHERE failure IS NOT NULL;
CREATE TABLE tries (
    job INTEGER NOT NULL,
    start INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    PRIMARY KEY (job, start)
) WITHOUT ROWID;
CREATE TABLE lines (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    job INTEGER NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX lines_as_they_came ON lines (job, seq)
"""


def create(db: sqlite3.Connection) -> None:
    """Make an empty database one of a serving master, in one transaction."""
    for statement in SCHEMA.split(";"):
        db.execute(statement)
    db.execute("COMMIT")


def is_service(db: sqlite3.Connection) -> bool:
    """Whether a database is one of a serving master."""
    return bool(db.execute("PRAGMA application_id").fetchone() == (APPLICATION,))


def check_header(path: str, db: sqlite3.Connection) -> None:
    """Refuse a database that is not one of a serving master of this dq.

    Raises:
        BadJournal: it is not.
    """
    [application] = db.execute("PRAGMA application_id").fetchone()
    if application == RUN_JOURNAL:
        raise BadJournal(
            f"{path} is the journal of one run, with its inputs; a master that keeps jobs needs a"
            " file of its own"
        )
    if application != APPLICATION:
        raise BadJournal(f"{path} is an SQLite file, but not one that a dq master keeps jobs in")
    [version] = db.execute("PRAGMA user_version").fetchone()
    if version != FORMAT:
        raise BadJournal(
            f"{path} has format {version} of a master's jobs, this dq reads {FORMAT}; use the dq"
            " that wrote it"
        )


def begin_writing(db: sqlite3.Connection) -> bool:
    """Have what is written go to a -wal file first. Returns whether a master had the file open and
    has not closed it."""
    [was_open] = db.execute("SELECT open FROM master").fetchone()
    db.execute("PRAGMA journal_mode = WAL").fetchall()
    db.execute("PRAGMA synchronous = FULL")
    # Written to the -wal, which exists from here on, and only then to the file. So the file never
    # says that there must be a -wal while there is none.
    db.execute("UPDATE master SET open = 1")
    db.execute("PRAGMA wal_checkpoint(FULL)").fetchall()
    db.execute("UPDATE master SET open = 1")
    return bool(was_open)
