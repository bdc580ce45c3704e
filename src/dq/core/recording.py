"""Records outcomes: each task has one, which is the first that is reported."""

from __future__ import annotations

from dq.core.jobs import Job
from dq.core.records import Batch, Failed, Failure, Outcome, Recorded

CANCELLED = Failed(Failure("CancelledError", "it was cancelled"), retry=False)


class Recording:
    """Records outcomes, or requeues their tasks for another attempt.

    Attributes:
        draining: whether failed tasks are not retried.
    """

    def __init__(self) -> None:
        self.draining = False

    def take(
        self,
        job: Job,
        batch: Batch,
        outcome: Outcome,
        worker: str,
        now: float,
        waiting: bool = False,
    ) -> list[Recorded]:
        """Record an outcome, or requeue its task for another attempt. `waiting` says that a copy
        of the task is queued already."""
        if batch.redelivered and not self._is_first(job, batch, waiting):
            return []
        if isinstance(outcome, Failed) and self._may_retry(job, batch.start, outcome):
            job.fails[batch.start] = job.fails.get(batch.start, 0) + 1
            if job.copies.get(batch.start):
                return []  # the other copy is the next attempt
            if waiting and job.rules.retry_delay > 0:
                job.waiting.remove(batch.start)
                waiting = False
            if not waiting and job.stopped is None:
                job.waiting.push(batch, now, job.rules.retry_delay)
            return []
        return self.record(job, batch, outcome, worker)

    def record(self, job: Job, batch: Batch, outcome: Outcome, worker: str) -> list[Recorded]:
        """Record the outcome of tasks that have none."""
        recorded = self._add(job, batch, outcome, worker)
        if isinstance(outcome, Failed):
            if not outcome.is_unreadable:  # an unreadable input ends the run or is skipped
                job.counts.failed += 1
                self._check_failures(job)
        else:
            job.counts.done += batch.count
        return [recorded]

    def cancel(self, job: Job, batch: Batch, worker: str) -> Recorded:
        """Record that a task, which has no outcome, was cancelled. That is no failure of its."""
        return self._add(job, batch, CANCELLED, worker)

    def _add(self, job: Job, batch: Batch, outcome: Outcome, worker: str) -> Recorded:
        if batch.redelivered:
            job.settle(batch)
        recorded = Recorded(batch, outcome, job.attempts(batch), worker)
        job.outstanding -= batch.count
        job.unread += 1
        job.held_bytes += recorded.nbytes
        return recorded

    def _is_first(self, job: Job, batch: Batch, waiting: bool) -> bool:
        """Whether none of these tasks has an outcome. A blob of results cannot be divided, so if
        only some tasks have an outcome, the others are requeued."""
        runs = list(job.waiting.open_runs(batch))
        if runs == [batch]:
            return True
        job.counts.dropped += batch.count
        if not waiting and job.stopped is None:
            job.waiting.put_back_all(runs)
        return False

    def _may_retry(self, job: Job, index: int, failed: Failed) -> bool:
        # In a stopped job too: a task that has attempts left is left to a later run.
        if not failed.retry or self.draining:
            return False
        return job.fails.get(index, 0) < job.rules.retries

    def _check_failures(self, job: Job) -> None:
        most = job.rules.max_failures
        if most is not None and job.counts.failed >= most:
            job.stop(f"{job.counts.failed} task(s) failed")
            job.ending = True
