"""Has the dispatcher serve the jobs of a master that stays, until each has ended."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from dq.core.records import Failed, Recorded
from dq.dispatch.dispatcher import Dispatcher
from dq.errors import BadJournal, UsageError
from dq.service import rows
from dq.service.inputs import StoredInputs
from dq.service.specs import of_any_version, with_new_id
from dq.service.store import Store
from dq.service.stored_job import Round, StoredJob

MOST_ENDED_LATELY = 1000  # rounds of jobs whose tasks' last lines may still come


class JobRunner:
    """Runs jobs, and writes their outcomes. Its methods are called with the service's lock held, or
    in the writer's thread where they say so.

    Args:
        dispatcher: serves the jobs.
        jobs: the service's, by id.
        changed: a condition of the service's lock: notified when a job has changed.
        store: returns the file.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        jobs: dict[str, StoredJob],
        changed: threading.Condition,
        store: Callable[[], Store],
    ) -> None:
        self._dispatcher = dispatcher
        self._jobs = jobs
        self._changed = changed
        self._store = store
        self._served: dict[str, StoredJob] = {}  # by the ids that workers know them by
        # What tasks have printed comes with a worker's next beat, perhaps after the job's end.
        self._ended_lately: dict[str, StoredJob] = {}

    def served(self, spec_id: str) -> StoredJob | None:
        """The job that workers know by this id."""
        return self._served.get(spec_id)

    def served_lately(self, spec_id: str) -> StoredJob | None:
        """The same, or if it has ended not long ago."""
        return self._served.get(spec_id) or self._ended_lately.get(spec_id)

    def begin_if_due(self, job: StoredJob) -> None:
        """Have a job served, if it is to run and does not wait for others."""
        if job.state != rows.OPEN or not all(round.is_over for round in job.rounds):
            return
        awaited = self._awaited(job)
        bad = _unsuccessful(awaited)
        if bad is not None:
            reason = f"job {bad.number} that it was to follow has not succeeded"
            action = partial(rows.cancel_job, key=job.key, reason=reason)
            self._store().write(action, lambda was_open: self.cancelled(job, was_open, reason))
        elif all(one.has_ended for one in awaited):
            skips = self._store().read(partial(rows.spans, key=job.key))
            if sum(stop - start for start, stop in skips) != job.outcomes:
                path = self._store().path
                raise BadJournal(f"{path} is damaged: the outcomes of job {job.number}")
            self.serve(job, skips)

    def _awaited(self, job: StoredJob) -> list[StoredJob]:
        """The jobs that a job follows. Those that were forgotten have succeeded: see `forget`."""
        return [self._jobs[id] for id in job.options.after if id in self._jobs]

    def check_awaited(self, job: StoredJob) -> None:
        """Check that a job may go on.

        Raises:
            UsageError: another one that it was to follow has not succeeded.
        """
        with self._changed:
            bad = _unsuccessful(self._awaited(job))
        if bad is not None:
            raise UsageError(
                f"job {bad.number} that job {job.number} was to follow has not succeeded: retry"
                " that one first"
            )

    def serve_rest(self, job: StoredJob) -> None:
        """Have all of a job served that has no outcome, as soon as those that it follows have
        succeeded, and have what is still served of it count no more."""
        for round in job.rounds:
            round.is_over = True
        if all(one.has_ended for one in self._awaited(job)):
            self.serve(job, self._store().read(partial(rows.spans, key=job.key)))

    def serve(self, job: StoredJob, skips: Sequence[tuple[int, int]]) -> None:
        """Have a job served.

        Args:
            job: the job.
            skips: ranges of its tasks that are not run, each with its first and the one after its
                last.
        """
        store = self._store()
        spec = with_new_id(store.read(partial(rows.spec_of, key=job.key)))
        round = Round(store.read(partial(rows.attempts_before, key=job.key)))
        if round.before or job.retries:
            spec = of_any_version(spec)
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

        self._store().write(write, lambda added: self._written(job, round, record, bool(added)))

    def _written(self, job: StoredJob, round: Round, record: Recorded, added: bool) -> None:
        """Note that an outcome is on disk; called in the writer's thread."""
        assert round.served is not None  # the record came from it
        self._dispatcher.delivery.consumed(round.served, [record])
        with self._changed:
            if added and isinstance(record.outcome, Failed):
                job.failed += record.batch.count
            elif added:
                job.done += record.batch.count
            self.note_change(job)
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

        self._store().write(write, then)

    def cancelled(self, job: StoredJob, was_open: object, reason: str) -> None:
        """Note that it is on disk that a job was cancelled, unless it had ended before; called in
        the writer's thread."""
        if was_open:
            self._ended(job, rows.CANCELLED, reason)

    def _ended(self, job: StoredJob, state: str, reason: str) -> None:
        """Note that it is on disk how a job has ended; called in the writer's thread."""
        with self._changed:
            job.state, job.reason, job.ended = state, reason, time.time()
            job.ended_at = self._dispatcher.clock()
            self.note_change(job)
            for other in list(self._jobs.values()):
                if job.id in other.options.after:
                    self.begin_if_due(other)

    def note_change(self, job: StoredJob) -> None:
        """Tell those who wait that a job has changed."""
        job.version += 1
        self._changed.notify_all()

    def end_finished(self) -> None:
        """End the rounds that have no more outcomes to come."""
        for job in {*self._served.values()}:
            for round in list(job.rounds):
                self._end_if_over(job, round)


def _unsuccessful(jobs: Sequence[StoredJob]) -> StoredJob | None:
    """The first of these jobs that has ended otherwise than well."""
    return next((job for job in jobs if job.has_ended and job.state != rows.DONE), None)
