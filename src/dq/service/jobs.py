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
from dq.dispatch.dispatcher import Dispatcher
from dq.dispatch.other_versions import described
from dq.dispatch.served_job import ServedJob
from dq.errors import DqError, UsageError
from dq.service import rows
from dq.service.inputs import but
from dq.service.job_runner import JobRunner
from dq.service.selectors import id_in, select, selector_of
from dq.service.store import Store
from dq.service.stored_job import StoredJob, by_id
from dq.service.submissions import Submissions

SWEEP_INTERVAL_S = 60.0
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
        self._runner = JobRunner(dispatcher, self._jobs, self.changed, lambda: self.store)
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
                self._runner.begin_if_due(job)

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
                self._runner.begin_if_due(job)
                self._runner.note_change(job)

    def tick(self) -> None:
        """End what has no more outcomes to come, and sweep what was submitted in part; called at
        intervals."""
        now = time.monotonic()
        with self._lock:
            self._runner.end_finished()
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
        served: list[ServedJob] = []

        def then(was_open: bool) -> None:
            with self._lock:  # later the job may go on, with another round
                served.extend(round.served for round in job.rounds if round.served is not None)
            self._runner.cancelled(job, was_open, reason)

        if not self.store.ask(partial(rows.cancel_job, key=job.key, reason=reason), then):
            return False
        for one in served:
            self._dispatcher.cancellation.cancel_job(one.spec.id)
        self.tick()
        return True

    def retry(self, job: StoredJob, ids: Sequence[int] | None) -> int:
        """Run failed tasks again: those with these ids, or all. Returns how many they are. A job
        that ended early goes on with what it had left, too, since it could not end otherwise. One
        that is going on is offered again to the workers that could not load it.

        Raises:
            UsageError: another job that it was to follow has not succeeded.
        """
        self._runner.check_awaited(job)

        def write(db: sqlite3.Connection) -> tuple[list[int], bool]:
            had_ended_early = (ids is None or bool(ids)) and rows.reopen_job(db, job.key)
            dropped = rows.drop_failures(db, job.key, ids)
            job.retries += bool(dropped) or had_ended_early
            return dropped, had_ended_early

        dropped, _ = self.store.ask(write, lambda found: self._go_on(job, *found))
        with self._lock:
            served = [round.served for round in job.rounds if round.served is not None]
        for one in served:
            self._dispatcher.rejections.readmit_to(one.spec.id)
        return len(dropped)

    def _go_on(self, job: StoredJob, dropped: list[int], had_ended_early: bool) -> None:
        """Run tasks of which the outcomes are gone from the disk, and all that is left if nothing
        else is running; called in the writer's thread."""
        if not dropped and not had_ended_early:
            return
        with self._lock:
            job.failed -= len(dropped)
            job.state, job.reason, job.ended = rows.OPEN, "", None
            if not had_ended_early and any(round.is_going for round in job.rounds):
                self._runner.serve(job, but(dropped, job.total))
            else:
                self._runner.serve_rest(job)
            self._runner.note_change(job)

    def forget(self, job: StoredJob) -> None:
        """Remove all that there is of a job.

        Raises:
            UsageError: it has not ended, or another one is to follow it, and has not ended, or
                could otherwise be run although this one has not succeeded.
        """
        with self._lock:
            for other in self._jobs.values():
                if job.id not in other.options.after:
                    continue
                which = f"job {other.number}" if other.is_committed else "a new job"
                if not other.has_ended:
                    raise UsageError(f"{which}, which follows job {job.number}, has not ended")
                if rows.DONE not in (job.state, other.state):
                    raise UsageError(
                        f"{which}, which follows job {job.number}, has not succeeded: forget it"
                        " first"
                    )
        action = partial(rows.forget, key=job.key)
        if not self.store.ask(action, lambda is_gone: self._forgotten(job, is_gone)):
            raise UsageError(f"job {job.number} has not ended: cancel it first")

    def _forgotten(self, job: StoredJob, is_gone: bool) -> None:
        """Note that a job is gone from the disk; called in the writer's thread."""
        if is_gone:
            with self._lock:
                self._jobs.pop(job.id, None)
                self._runner.note_change(job)

    def add_lines(self, spec_id: str, lines: Sequence[OutputLine]) -> None:
        """Keep lines that tasks of a job have printed. Those of other jobs are none of its
        business. Waits if the disk does not keep up."""
        with self._lock:
            job = self._runner.served_lately(spec_id)
        if job is None:
            return
        texts = list(map(str, lines))

        def write(db: sqlite3.Connection) -> None:
            rows.add_lines(db, job.key, texts, MOST_LINES)

        def then(_: object) -> None:
            with self._lock:
                self._runner.note_change(job)

        self.store.stream(write, then, lambda error: None, sum(map(len, texts)))

    def note_other_version(self, spec_id: str, process: str, file: str, digest: str) -> None:
        """Note that a process runs tasks of a job with another version of a file than the one that
        its submitter has. A job has one note of each file."""
        with self._lock:
            job = self._runner.served_lately(spec_id)
            if job is None or file in job.notes or len(job.notes) >= MOST_NOTES:
                return
            job.notes[file] = described(process, file, digest, than="the submitter has")
            note = OutputLine(process, spec_id, -1, job.notes[file])
        self.add_lines(spec_id, [note])

    def number_of(self, spec_id: str) -> str:
        """The number of the job that is served by this id; "" if there is none."""
        with self._lock:
            job = self._runner.served(spec_id)
        return "" if job is None else str(job.number)
