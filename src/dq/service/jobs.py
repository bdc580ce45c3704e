"""The jobs of a serving master: taken in, run, ended, and forgotten on request.

    submit ──▶ receiving ──▶ open ──▶ done, failed, stopped, cancelled ──▶ forgotten
                 │             ▲                    │
                 └─ swept      └────── retry ───────┘

All of a job is on disk before its submitter is told its number, and each outcome before anybody
sees it. So a master that is killed goes on with the same jobs when it is started again.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from dq._support.naming import setting
from dq.core.beats import OutputLine
from dq.core.records import Failed, Recorded, printable
from dq.dispatch.dispatcher import Dispatcher
from dq.errors import BadJournal, DqError, UsageError
from dq.service import rows
from dq.service.inputs import StoredInputs, but
from dq.service.selectors import id_in, select, selector_of
from dq.service.specs import with_new_id
from dq.service.store import Store
from dq.service.stored_job import Round, StoredJob, by_id
from dq.service.submissions import Submissions

SWEEP_INTERVAL_S = 60.0
MOST_ENDED_LATELY = 1000  # rounds of jobs whose tasks' last lines may still come
MOST_LINES = 10_000  # of a job's tasks that are kept
MOST_NOTES = 20  # of a job


class JobService:
    """Keeps jobs in a file, and has the dispatcher serve them.

    Args:
        dispatcher: serves them.
        path: the file; None for a temporary one, which is made when the first job comes.
        report: called with each line that people should see.

    Raises:
        BadJournal: the file is damaged, in use, or something else.
        OutputError: it cannot be written.

    Attributes:
        changed: a condition of the service's lock: notified when a job has changed.
    """

    def __init__(
        self, dispatcher: Dispatcher, path: str | None, report: Callable[[str], None]
    ) -> None:
        self._dispatcher = dispatcher
        self._report = report
        # Guards everything here, and is acquired before the dispatcher's lock, never after it.
        self._lock = threading.RLock()
        self.changed = threading.Condition(self._lock)
        self._jobs: dict[str, StoredJob] = {}  # by id
        self._served: dict[str, StoredJob] = {}  # by the ids that workers know them by
        # What tasks have printed comes with a worker's next beat, perhaps after the job's end.
        self._ended_lately: dict[str, StoredJob] = {}
        self.submissions = Submissions(self, self._lock, self._jobs)
        self._sweep_at = 0.0
        self._store: Store | None = None
        if path is not None:
            self._store = Store(path, log=report)

    # The file

    @property
    def store(self) -> Store:
        """The file, which is made now if there is none."""
        with self._lock:
            if self._store is None:
                self._store = Store(None, log=self._report)
                self._report(
                    f"jobs are kept until this master ends; with {setting('journal')} they would"
                    " outlive it"
                )
            return self._store

    def start(self) -> None:
        """Go on with the jobs that are in the file."""
        if self._store is None:
            return
        now, path = time.monotonic(), self._store.path
        found = self._store.read(lambda db: list(rows.jobs(db, path)))
        with self._lock:
            self._jobs.update({row.id: StoredJob.of(row, now) for row in found})
            for job in self._jobs.values():
                if not job.is_committed:
                    job.received = self._store.read(partial(rows.count_blocks, key=job.key))
                    job.written = job.received
                self._begin_if_due(job)

    def close(self) -> None:
        """Write what is left, and release the file."""
        if self._store is not None:
            self._store.close()

    @property
    def error(self) -> DqError | None:
        """Why nothing more can be written, if that is so."""
        return None if self._store is None else self._store.error

    def committed(self, job: StoredJob, number: int, total: int) -> None:
        """Begin to run a job, all of whose inputs are on disk."""
        with self._lock:
            if not job.is_committed:
                job.number, job.total, job.state = number, total, rows.OPEN
                self._begin_if_due(job)
                self._note_change(job)

    # Running

    def _begin_if_due(self, job: StoredJob) -> None:
        """Have a job served, if it is to run and does not wait for others."""
        if job.state != rows.OPEN or job.rounds:
            return
        found = [self._jobs.get(id) for id in job.options.after]
        awaited = [one for one in found if one is not None]  # the others succeeded: see `forget`
        bad = [one for one in awaited if one.has_ended and one.state != rows.DONE]
        if bad:
            reason = f"job {bad[0].number} that it was to follow has not succeeded"
            action = partial(rows.cancel_job, key=job.key, reason=reason)
            self.store.write(action, lambda was_open: self._cancelled(job, was_open, reason))
        elif all(one.has_ended for one in awaited):
            skips = self.store.read(partial(rows.spans, key=job.key))
            if sum(stop - start for start, stop in skips) != job.outcomes:
                raise BadJournal(f"{self.store.path} is damaged: the outcomes of job {job.number}")
            self._serve(job, skips)

    def _serve(self, job: StoredJob, skips: Sequence[tuple[int, int]]) -> None:
        store = self.store
        spec = with_new_id(store.read(partial(rows.spec_of, key=job.key)))
        round = Round(store.read(partial(rows.attempts_before, key=job.key)))
        job.rounds.append(round)
        job.started, job.done_before = time.monotonic(), job.outcomes
        with self._dispatcher.lock:
            round.served = self._dispatcher.jobs.open(
                spec,
                job.options.rules,
                StoredInputs(store, job.key, job.total, skips),
                skips=skips,
                sink=partial(self._take, job, round),
            )
            round.served.job.counts.failed = job.failed  # which count towards `max_failures`
            round.served.cannot_write = lambda: store.is_stuck
        self._served[spec.id] = job

    def _take(self, job: StoredJob, round: Round, record: Recorded) -> None:
        """Write an outcome; called in the thread that has received it."""
        before = round.before.get(record.batch.start, 0) if record.batch.count == 1 else 0

        def write(db: sqlite3.Connection) -> bool:
            return not round.is_over and rows.add_outcome(db, job.key, record, before)

        self.store.write(write, lambda added: self._written(job, round, record, bool(added)))

    def _written(self, job: StoredJob, round: Round, record: Recorded, added: bool) -> None:
        """Note that an outcome is on disk; called in the writer's thread."""
        assert round.served is not None  # the record came from it
        self._dispatcher.delivery.consumed(round.served, [record])
        with self._lock:
            if added and isinstance(record.outcome, Failed):
                job.failed += record.batch.count
            elif added:
                job.done += record.batch.count
            self._note_change(job)
            self._end_if_over(job, round)

    def _end_if_over(self, job: StoredJob, round: Round) -> None:
        """End a round if all of its outcomes are on disk and no more will come."""
        served = round.served
        if served is None or round not in job.rounds:
            return
        board = self._dispatcher.board
        with self._dispatcher.lock:
            is_over = served.job.finished and not served.job.unread and not board.draining
            reason = served.job.stopped
        if not is_over:
            return
        job.rounds.remove(round)
        del self._served[served.spec.id]
        self._ended_lately[served.spec.id] = job
        if len(self._ended_lately) > MOST_ENDED_LATELY:
            del self._ended_lately[next(iter(self._ended_lately))]
        self._dispatcher.jobs.close(served)
        if job.has_ended:
            return
        if not round.is_over:
            job.reason = reason or job.reason  # another round may still run
        if all(other.is_over for other in job.rounds):
            self._end(job)

    def _end(self, job: StoredJob) -> None:
        """End a job of which nothing more runs, unless it is to go on by the time that this is
        written."""
        reason, retries = job.reason, job.retries

        def write(db: sqlite3.Connection) -> str | None:
            return rows.end_job(db, job.key, reason) if job.retries == retries else None

        def then(state: object) -> None:
            if state is not None:
                self._ended(job, str(state), reason if state == rows.STOPPED else "")

        self.store.write(write, then)

    def _cancelled(self, job: StoredJob, was_open: object, reason: str) -> None:
        if was_open:
            self._ended(job, rows.CANCELLED, reason)

    def _ended(self, job: StoredJob, state: str, reason: str) -> None:
        """Note that it is on disk how a job has ended; called in the writer's thread."""
        with self._lock:
            job.state, job.reason, job.ended = state, reason, time.time()
            job.ended_at = self._dispatcher.clock()
            self._note_change(job)
            for other in list(self._jobs.values()):
                if job.id in other.options.after:
                    self._begin_if_due(other)

    def _note_change(self, job: StoredJob) -> None:
        job.version += 1
        self.changed.notify_all()

    def tick(self) -> None:
        """End what has no more outcomes to come, and sweep what was submitted in part; called at
        intervals."""
        now = time.monotonic()
        with self._lock:
            for job in {*self._served.values()}:
                for round in list(job.rounds):
                    self._end_if_over(job, round)
            if now < self._sweep_at:
                return
            self._sweep_at = now + SWEEP_INTERVAL_S
        self.submissions.sweep(now)

    # On request

    def find(self, id: str) -> StoredJob | None:
        """The job with this id."""
        with self._lock:
            return self._jobs.get(id)

    def select(self, selectors: Sequence[str]) -> list[StoredJob]:
        """The jobs that selectors stand for.

        Raises:
            UsageError: there is no such job.
        """
        with self._lock:
            ids = [id_in(selector) for selector in selectors]
            if selectors and None not in ids:  # without a look at all jobs
                return [by_id(self._jobs, id or "") for id in ids]
            jobs = {job.number: job for job in self._jobs.values() if job.is_committed}
            names = {number: job.name for number, job in jobs.items()}
            numbers = {selector_of(job.id): str(job.number) for job in jobs.values()}
            named = [numbers.get(selector, selector) for selector in selectors]
            return [jobs[number] for number in select(named, names)]

    def cancel(self, job: StoredJob) -> bool:
        """End a job: nothing more of it is run, and running tasks are ended. Returns False if it
        had ended already."""
        reason = "on request"
        action = partial(rows.cancel_job, key=job.key, reason=reason)
        if not self.store.ask(action, lambda found: self._cancelled(job, found, reason)):
            return False
        with self._lock:
            served = [round.served for round in job.rounds if round.served is not None]
        for one in served:
            self._dispatcher.cancellation.cancel_job(one.spec.id)
        self.tick()
        return True

    def retry(self, job: StoredJob, ids: Sequence[int] | None) -> int:
        """Run failed tasks again: those with these ids, or all. Returns how many they are. A job
        that ended early goes on with what it had left, too, since it could not end otherwise."""

        def write(db: sqlite3.Connection) -> list[int]:
            dropped = rows.drop_failures(db, job.key, ids)
            job.retries += bool(dropped)
            return dropped

        return len(self.store.ask(write, lambda dropped: self._go_on(job, dropped)))

    def _go_on(self, job: StoredJob, dropped: list[int]) -> None:
        """Run tasks of which the outcomes are gone from the disk, and all that is left if nothing
        else is running; called in the writer's thread."""
        if not dropped:
            return
        with self._lock:
            job.failed -= len(dropped)
            job.state, job.reason, job.ended = rows.OPEN, "", None
            if any(round.is_going for round in job.rounds):
                skips = but(dropped, job.total)
            else:
                skips = self.store.read(partial(rows.spans, key=job.key))
                for round in job.rounds:
                    round.is_over = True
            self._serve(job, skips)
            self._note_change(job)

    def forget(self, job: StoredJob) -> None:
        """Remove all that there is of a job.

        Raises:
            UsageError: it has not ended, or another one that has not ended is to follow it.
        """
        with self._lock:
            for other in self._jobs.values():
                if job.id in other.options.after and not other.has_ended:
                    which = f"job {other.number}" if other.is_committed else "a new job"
                    raise UsageError(f"{which}, which follows job {job.number}, has not ended")
        action = partial(rows.forget, key=job.key)
        if not self.store.ask(action, lambda is_gone: self._forgotten(job, is_gone)):
            raise UsageError(f"job {job.number} has not ended: cancel it first")

    def _forgotten(self, job: StoredJob, is_gone: bool) -> None:
        """Note that a job is gone from the disk; called in the writer's thread."""
        if is_gone:
            with self._lock:
                self._jobs.pop(job.id, None)
                self._note_change(job)

    def add_lines(self, spec_id: str, lines: Sequence[OutputLine]) -> None:
        """Keep lines that tasks of a job have printed. Those of other jobs are none of its
        business. Waits if the disk does not keep up."""
        with self._lock:
            job = self._served.get(spec_id) or self._ended_lately.get(spec_id)
        if job is None:
            return
        texts = list(map(str, lines))

        def write(db: sqlite3.Connection) -> None:
            rows.add_lines(db, job.key, texts, MOST_LINES)

        def then(_: object) -> None:
            with self._lock:
                self._note_change(job)

        self.store.stream(write, then, lambda error: None, sum(map(len, texts)))

    def note_other_version(self, spec_id: str, process: str, file: str) -> None:
        """Note that a process runs tasks of a job with another version of a file than the one that
        its submitter has. A job has one note of each file."""
        with self._lock:
            job = self._served.get(spec_id) or self._ended_lately.get(spec_id)
            if job is None or file in job.notes or len(job.notes) >= MOST_NOTES:
                return
            job.notes[file] = printable(
                f"worker {process} has loaded another version of {file} than the"
                f" submitter has, and works with it; {setting('strict_code')} refuses that"
            )
            note = OutputLine(process, spec_id, -1, job.notes[file])
        self.add_lines(spec_id, [note])

    def number_of(self, spec_id: str) -> str:
        """The number of the job that is served by this id; "" if there is none."""
        with self._lock:
            job = self._served.get(spec_id)
        return "" if job is None else str(job.number)
