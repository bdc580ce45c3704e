"""Reads the file of a serving master without the master, also while one writes it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator

from dq.core.records import Reading
from dq.errors import BadJournal
from dq.journal.database import UNREADABLE, check_log, damaged, explained, open_reader
from dq.journal.inspect import file_of
from dq.service import rows
from dq.service.inputs import InputReader
from dq.service.results import Row, Tally, row_of
from dq.service.rows import JobRow
from dq.service.selectors import select, the_one
from dq.service.status import JobStatus
from dq.service.tables import check_header, is_service


def is_masters(path: str) -> bool:
    """Whether a file is a serving master's, rather than the journal of a run.

    Raises:
        BadJournal: it is not a file.
        OutputError: it cannot be read.
    """
    file = file_of(path)
    if not os.path.getsize(file):
        return False
    try:
        with contextlib.closing(_opened(file)) as db:
            return is_service(db)
    except sqlite3.DatabaseError:
        return False  # that of a run is recovered where this one cannot be read


class MastersFile:
    """A serving master's file while it is looked at.

    Args:
        path: the file.

    Raises:
        BadJournal: it is damaged, or of another dq.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._db = _opened(file_of(path))

    @classmethod
    @contextlib.contextmanager
    def opened(cls, path: str) -> Iterator[MastersFile]:
        """Look at a file in this block, in which all errors of SQLite are explained."""
        try:
            found = cls(path)
            with contextlib.closing(found._db):
                found._check()
                yield found
        except UNREADABLE as error:
            raise explained(path, error) from None

    def _check(self) -> None:
        check_header(self._path, self._db)
        [found] = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise BadJournal(damaged(self._path, found))
        check_log(self._path)

    @property
    def is_open(self) -> bool:
        """Whether a master has it open, or died while it had."""
        [is_open] = self._db.execute("SELECT open FROM master").fetchone()
        return bool(is_open)

    def _rows(self) -> dict[int, JobRow]:
        found = rows.jobs(self._db, self._path)
        return {job.number: job for job in found if job.number is not None}

    def jobs(self) -> list[JobStatus]:
        """Its jobs, but for those whose inputs have not all arrived. One that has not ended is
        "open"."""
        return [_status(job) for job in self._rows().values()]

    def job(self, selector: str) -> JobStatus:
        """The job that a selector stands for.

        Raises:
            UsageError: there is none, or it stands for several.
        """
        return _status(self._one(selector))

    def _one(self, selector: str) -> JobRow:
        found = self._rows()
        numbers = select([selector], {number: job.name for number, job in found.items()})
        return found[the_one(selector, numbers)]

    def reading(self, number: int) -> Reading:
        """How to make values of a job's inputs."""
        return rows.reading_of(self._db, self._one(str(number)).key)

    def outcomes(self, number: int) -> Iterator[Row]:
        """The outcomes of a job's tasks in the order of the inputs, with these, as a master sends
        them to clients."""
        job, tally = self._one(str(number)), Tally()
        reader = InputReader(lambda query: query(self._db), job.key)
        for outcome in rows.outcomes_from(self._db, job.key, 0):
            row = row_of(outcome, reader.between(outcome.start, outcome.stop))
            tally.add([row], job.done + job.failed if job.state in rows.ENDED else None)
            yield row
        tally.check()


def _opened(file: str) -> sqlite3.Connection:
    return open_reader(file, alone=not os.path.exists(file + "-wal"))


def _status(job: JobRow) -> JobStatus:
    return JobStatus(
        number=job.number or 0, id=job.id, name=job.name, task=job.task, state=job.state,
        reason=job.reason, total=job.total, done=job.done, failed=job.failed,
        priority=job.options.priority, submitted=job.submitted, ended=job.ended,
    )  # fmt: skip
