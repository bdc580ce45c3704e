"""What clients see of jobs: figures, results, failures, printed lines. As built-in types."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice

from dq._support.quantities import human_duration
from dq.core.records import Done, Failed
from dq.dispatch.dispatcher import Dispatcher
from dq.dispatch.served_job import ServedJob
from dq.errors import BadJournal
from dq.service import rows
from dq.service.inputs import InputReader
from dq.service.jobs import JobService
from dq.service.results import Row, row_of
from dq.service.rows import OutcomeRow
from dq.service.specs import to_client
from dq.service.stored_job import StoredJob

WAITING, RUNNING = "waiting", "running"  # what people see of an open job
PAGE_BYTES = 1 << 20  # of results that a client gets at once
PAGE_ROWS = 500
PAGE_LINES = 1000
LAST_LINES_S = 15.0  # after a job's end, to wait for lines of workers that are silent

Wire = dict[str, object]


class Looking:
    """Answers clients' questions about jobs.

    Args:
        service: keeps the jobs.
        dispatcher: says how many of their tasks are running.
    """

    def __init__(self, service: JobService, dispatcher: Dispatcher) -> None:
        self._service = service
        self._dispatcher = dispatcher

    def status(self, job: StoredJob) -> Wire:
        """The figures of a job, as `dq.JobStatus` has them."""
        running = self._running(job)
        rate = left = None
        if running and (seconds := time.monotonic() - job.started) > 0:
            rate = (job.outcomes - job.done_before) / seconds
            left = (job.total - job.outcomes) / rate if rate else None
        return {
            "number": job.number,
            "id": job.id,
            "name": job.name,
            "task": job.task,
            "state": self._state(job, running),
            "reason": job.reason,
            "total": job.total,
            "done": job.done,
            "failed": job.failed,
            "running": running,
            "priority": job.options.priority,
            "submitted": job.submitted,
            "ended": job.ended,
            "rate": rate,
            "left": left,
            "version": job.version,
            "notes": list(job.notes.values()),
        }

    def _running(self, job: StoredJob) -> int:
        """How many tasks of a job workers have now."""
        ids = {round.served.spec.id for round in job.rounds if round.served is not None}
        if not ids:
            return 0
        with self._dispatcher.lock:
            leases = list(self._dispatcher.board.leases.values())
            return sum(one.stop - one.next for one in leases if one.batch.job in ids)

    def _state(self, job: StoredJob, running: int) -> str:
        """The state of a job, of which so many tasks are running, for people."""
        if job.state != rows.OPEN:
            return job.state
        has_begun = job.outcomes > 0 or running > 0
        return RUNNING if has_begun and not self._awaited(job) else WAITING

    def why_not(self, job: StoredJob) -> list[str]:
        """Why a job's tasks do not run, for people; empty if they do, or it has ended."""
        if job.has_ended or self._running(job):
            return []
        reasons = [f"it waits for job {number}" for number in self._awaited(job)]
        served = [round.served for round in job.rounds if round.served is not None]
        with self._dispatcher.lock:
            refusals = {reason for one in served for reason in one.job.rejected.values()}
        reasons += [
            f"refused: {reason} (`dq retry {job.number}` has it tried again)"
            for reason in sorted(refusals)
        ]
        if self._dispatcher.board.draining:
            reasons.append("the master is draining")
        if not self._dispatcher.slots:
            reasons.append("no worker is connected")
        elif served and not reasons:
            reasons.append(self._held_back(job, served))
        return reasons

    def _held_back(self, job: StoredJob, served: list[ServedJob]) -> str:
        """Why no slot has taken a task of a job that workers could run."""
        needs, rate = job.options.rules.needs, job.options.rules.rate
        q = self._dispatcher
        with q.lock:
            slots = [holder for holder in q.board.holders.values() if holder.is_slot]
            due = [at for one in served if (at := one.job.due()) is not None]
            now = q.clock()
        if not any(needs <= holder.tags for holder in slots):
            return f"no worker that is connected has {', '.join(sorted(needs))}"
        if due and min(due) > now:
            why = "its rate" if rate is not None else "the delay before a retry"
            return f"{why} holds it back for {human_duration(min(due) - now)} more"
        return "all slots are busy with other tasks"

    def _awaited(self, job: StoredJob) -> list[int]:
        found = [self._service.find(id) for id in job.options.after]
        return [one.number for one in found if one is not None and not one.has_ended]

    # Results

    def results(self, job: StoredJob, cursor: int, ordered: bool, inputs: bool) -> Wire:
        """The next results from a cursor on, which is 0 at first: in the order of the inputs, or as
        they came."""
        query = partial(_in_order if ordered else _as_they_came, job=job, cursor=cursor)
        has_ended = job.has_ended and not job.rounds
        found = self._service.store.read(query)
        if ordered:
            found, cursor = _without_gaps(job, found, cursor, has_ended)
        elif found:
            cursor = found[-1].seq
        reader = InputReader(self._service.store.read, job.key)
        answer = [_with_inputs(row, reader, inputs) for row in found]
        whole = job.outcomes if has_ended else None
        return {"rows": answer, "cursor": cursor, "whole": whole, "over": has_ended and not found}

    def failures(self, job: StoredJob, cursor: int) -> Wire:
        """The next failed tasks from this one on, with their inputs."""
        whole = job.failed if job.has_ended and not job.rounds else 0
        found = self._service.store.read(lambda db: _page(rows.failures_from(db, job.key, cursor)))
        reader = InputReader(self._service.store.read, job.key)
        answer = [_with_inputs(row, reader, True) for row in found]
        cursor = found[-1].stop if found else cursor
        return {"rows": answer, "cursor": cursor, "whole": whole, "over": not found}

    def lines(self, job: StoredJob, cursor: int) -> Wire:
        """The next lines that a job's tasks have printed."""
        has_ended = job.has_ended and not job.rounds
        is_over = has_ended and self._have_all_lines(job)
        found = self._service.store.read(
            lambda db: rows.lines_after(db, job.key, cursor, PAGE_LINES)
        )
        last = found[-1][0] if found else cursor
        return {
            "lines": [text for _, text in found],
            "cursor": last,
            "ended": has_ended,
            "over": is_over and not found,
        }

    def _have_all_lines(self, job: StoredJob) -> bool:
        """Whether each worker has been heard of since a job has ended: what tasks print comes with
        the beats. One that is stopped is not waited for."""
        now = self._dispatcher.clock()
        if now - job.ended_at > LAST_LINES_S:
            return True
        return all(now - one.heard > job.ended_at for one in self._dispatcher.presence.workers())

    def spec(self, job: StoredJob) -> tuple[object, bytes | None]:
        """A job's spec as its submitter has sent it."""
        return to_client(self._service.store.read(partial(rows.spec_of, key=job.key)))

    def reading(self, job: StoredJob) -> tuple[object, ...]:
        """How to make values of a job's inputs."""
        return self._service.store.read(partial(rows.reading_of, key=job.key)).to_wire()


def _with_inputs(row: OutcomeRow, reader: InputReader, wanted: bool) -> Row:
    """A row as clients get it. That of a failed task always has its input."""
    needs = wanted or isinstance(row.outcome, Failed)
    return row_of(row, reader.between(row.start, row.stop) if needs else None)


def _in_order(db: sqlite3.Connection, job: StoredJob, cursor: int) -> list[OutcomeRow]:
    return _page(rows.outcomes_from(db, job.key, cursor))


def _as_they_came(db: sqlite3.Connection, job: StoredJob, cursor: int) -> list[OutcomeRow]:
    return _page(rows.outcomes_after(db, job.key, cursor))


def _page(found: Iterator[OutcomeRow]) -> list[OutcomeRow]:
    page: list[OutcomeRow] = []
    size = 0
    for row in islice(found, PAGE_ROWS):
        page.append(row)
        size += len(row.outcome.blob) if isinstance(row.outcome, Done) else 0
        if size >= PAGE_BYTES:
            break
    return page


def _without_gaps(
    job: StoredJob, found: list[OutcomeRow], cursor: int, has_ended: bool
) -> tuple[list[OutcomeRow], int]:
    """The rows up to the first task that has no outcome yet, and the cursor after them. A job that
    was stopped has gaps that stay.

    Raises:
        BadJournal: an outcome is missing that was there.
    """
    may_have_gaps = has_ended and job.outcomes < job.total
    for place, row in enumerate(found):
        if row.start > cursor and not may_have_gaps:
            if has_ended:
                raise BadJournal(f"the outcome of task {cursor} is missing on the master's disk")
            return found[:place], cursor
        cursor = row.stop
    if not found and has_ended and cursor < job.total and not may_have_gaps:
        raise BadJournal(f"the outcome of task {cursor} is missing on the master's disk")
    return found, cursor
