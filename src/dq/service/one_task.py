"""What there is to say of one task of a job: where it is, and why it does not run."""

from __future__ import annotations

from functools import partial

from dq._support.quantities import human_duration
from dq.core.jobs import Job
from dq.core.leases import Lease
from dq.core.records import Failed
from dq.dispatch.dispatcher import Dispatcher
from dq.errors import UsageError
from dq.service import rows
from dq.service.jobs import JobService
from dq.service.rows import OutcomeRow
from dq.service.stored_job import StoredJob


class OneTask:
    """Answers where tasks are.

    Args:
        service: keeps the jobs.
        dispatcher: has those that are leased, or wait.
    """

    def __init__(self, service: JobService, dispatcher: Dispatcher) -> None:
        self._service = service
        self._dispatcher = dispatcher

    def whereabouts(self, job: StoredJob, index: int) -> str:
        """Where a task is, for people; "" if it waits for its turn like the others of its job.

        Raises:
            UsageError: the job has no such task.
        """
        if index >= job.total:
            tasks = f"tasks 0 to {job.total - 1}" if job.total else "no tasks"
            raise UsageError(f"job {job.number} has {tasks}")
        row = self._service.store.read(partial(rows.outcome_of, key=job.key, index=index))
        if row is not None:
            return _ended(row)
        if job.has_ended:
            return f"it was not run: the job was {job.state}" + (job.reason and f": {job.reason}")
        for round in list(job.rounds):
            if round.served is not None and (said := self._served(round.served.job, index)):
                return said
        return ""

    def _served(self, job: Job, index: int) -> str:
        """Where a task is, of those that are served; "" if it was not sent to any worker yet."""
        running = {
            (one.job, one.index): one.age
            for worker in self._dispatcher.presence.workers()
            for one in worker.running
        }
        with self._dispatcher.lock:
            now = self._dispatcher.clock()
            for lease in self._dispatcher.board.leases.values():
                if lease.batch.job == job.id and lease.next <= index < lease.stop:
                    return _leased(lease, index, running.get((job.id, index)))
            for due, _, batch in job.waiting.delayed:
                if batch.start <= index < batch.stop and due > now:
                    fails = job.fails.get(index, 0)
                    when = human_duration(due - now)
                    return f"it has failed {_times(fails)}, and is tried again in {when}"
            if any(batch.start <= index < batch.stop for batch in job.waiting.batches):
                return "it was requeued, and is among the next to run"
            before = index - job.next
        if before < 0:
            return "it has just ended, and its outcome is being written"
        return (
            f"it waits behind {before} other task{'s' * (before > 1)} of its job" if before else ""
        )


def _ended(row: OutcomeRow) -> str:
    at = f"after {row.attempts} attempts, at" if row.attempts > 1 else "at"
    if isinstance(row.outcome, Failed):
        return f"it has failed {at} {row.worker}: {row.outcome.failure}"
    return f"it has returned {at} {row.worker}"


def _leased(lease: Lease, index: int, age: float | None) -> str:
    if age is not None:
        return f"it runs at {lease.holder.name}, for {human_duration(age)}"
    if index == lease.next:
        return f"it runs at {lease.holder.name}, or is about to"
    return f"{lease.holder.name} has it, behind task {lease.next} of the same batch"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
