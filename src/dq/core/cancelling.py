"""Cancels tasks, wherever they are."""

from __future__ import annotations

from bisect import insort

from dq.core.blobs import Blob
from dq.core.jobs import Job
from dq.core.lease_table import LeaseTable
from dq.core.leases import Lease
from dq.core.recording import Recording
from dq.core.records import Batch, Recorded


class Cancelling:
    """Gives tasks that have no outcome the outcome that they were cancelled.

    Wherever a batch may still bring another outcome of the task, its tasks are marked as
    redelivered: then the first outcome of each counts, which the cancelled task has already.

    Args:
        leases: the board's.
        recording: records the outcomes.
    """

    def __init__(self, leases: LeaseTable, recording: Recording) -> None:
        self._leases = leases
        self._recording = recording

    def cancel(self, job: Job, index: int, blob: Blob) -> tuple[Recorded | None, list[Lease]]:
        """Cancel a task; see `Board.cancel`."""
        if job.is_unbatched(index):
            return self._cancel_unbatched(job, Batch(job.id, index, 1, blob)), []
        leases = self._leases.with_task(job.id, index)
        batch = self._find(job, index, leases)
        if batch is None:
            return None, []
        worker = leases[0].holder.name if leases else ""
        return self._recording.cancel(job, batch, worker), leases

    def _cancel_unbatched(self, job: Job, batch: Batch) -> Recorded | None:
        if job.stopped is not None:
            return None  # it will not be run in any case
        insort(job.cancelled, batch.start)
        job.outstanding += 1
        return self._recording.cancel(job, batch, "")

    def _find(self, job: Job, index: int, leases: list[Lease]) -> Batch | None:
        """A task that was batched and has no outcome, as a batch of its own."""
        waiting = job.waiting.take(index)
        if index in job.waiting.redelivered:
            blobs = [lease.batch for lease in leases] + list(job.chosen.values())
            found = waiting or next((b for b in blobs if b.start <= index < b.stop), None)
            return None if found is None else found.part(index, index + 1, redelivered=True)
        if waiting is not None and not waiting.redelivered:
            return waiting
        for lease in leases:
            if lease.id in self._leases.active and not lease.batch.redelivered:
                self._mark(job, lease.next, lease.stop)
                lease.batch = _redelivered(lease.batch)
                return lease.batch.part(index, index + 1)
        for start, batch in job.chosen.items():
            if batch.start <= index < batch.stop and not batch.redelivered:
                self._mark(job, batch.start, batch.stop)
                job.chosen[start] = _redelivered(batch)
                return job.chosen[start].part(index, index + 1)
        return None

    def _mark(self, job: Job, start: int, stop: int) -> None:
        job.waiting.redelivered.update(range(start, stop))


def _redelivered(batch: Batch) -> Batch:
    return batch.part(batch.start, batch.stop, redelivered=True)
