"""All leases: which are active, who holds them, and which were lost."""

from __future__ import annotations

from collections.abc import Iterator

from dq.core.jobs import Job
from dq.core.leases import Lease, LeaseHolder
from dq.core.records import RECORD_BYTES, Batch
from dq.core.shares import TURN_S


class LeaseTable:
    """Leases by their number and by their holder.

    Args:
        ids: an iterator of new lease numbers.
        jobs: the board's.

    Attributes:
        active: leases of holders that are connected.
        lost: leases of holders that have left, which may still report them.
        held: the numbers of each holder's active leases.
    """

    def __init__(self, ids: Iterator[int], jobs: dict[str, Job]) -> None:
        self._ids = ids
        self._jobs = jobs
        self.active: dict[int, Lease] = {}
        self.lost: dict[int, Lease] = {}
        self.held: dict[int, set[int]] = {}

    def add(self, holder: LeaseHolder, job: Job, batch: Batch, now: float) -> Lease:
        """Lease a batch to a holder."""
        lease = Lease(
            id=next(self._ids),
            holder=holder,
            batch=batch,
            granted=now,
            attempt=job.attempts(batch),
            next=batch.start,
            stop=batch.stop,
            given=now,
            weight=RECORD_BYTES + max(len(batch.blob), int(batch.count * job.sizer.nbytes)),
            expected=min(batch.count * job.sizer.seconds, TURN_S),
        )
        if batch.start in job.copies:
            self._add_copy(job, lease)
        self.active[lease.id] = lease
        self.held[holder.id].add(lease.id)
        job.leases += 1
        job.held_bytes += lease.weight
        job.share.add(lease)
        return lease

    def copy(self, lease: Lease) -> Batch:
        """The last task of a lease, to be leased a second time."""
        job = self._jobs[lease.batch.job]
        lease.batch = lease.batch.part(lease.batch.start, lease.batch.stop, redelivered=True)
        job.waiting.redelivered.add(lease.next)
        job.copies[lease.next] = 0
        self._add_copy(job, lease)
        return lease.rest()

    def _add_copy(self, job: Job, lease: Lease) -> None:
        lease.copy_of = lease.next
        job.copies[lease.next] += 1

    def end_copy(self, lease: Lease) -> None:
        """Note that a lease no longer counts as one of the copies of its task."""
        index, job = lease.copy_of, self._jobs.get(lease.batch.job)
        if index is None or job is None:
            return
        lease.copy_of = None
        if index in job.copies:
            job.copies[index] -= 1
        else:
            job.superseded -= 1

    def remove(self, lease: Lease) -> None:
        """Remove a lease that has ended."""
        del self.active[lease.id]
        held = self.held.get(lease.holder.id)
        if held is not None:
            held.discard(lease.id)
        job = self._jobs.get(lease.batch.job)
        if job is not None:
            if lease.copy_of is not None:
                self.end_copy(lease)
            job.leases -= 1
            job.held_bytes -= lease.weight
            job.share.remove(lease)

    def lose(self, lease: Lease) -> None:
        """Requeue the tasks of a lease whose holder has left, in pieces."""
        job = self._jobs[lease.batch.job]
        job.share.lose(lease)
        self.remove(lease)
        if lease.next == lease.stop or job.stopped is not None:
            return
        if not job.copies.get(lease.next):
            job.waiting.requeue(lease.rest(), lease.suspect)
        self._remember(lease)

    def hand_back(self, lease: Lease, count: int) -> None:
        """Requeue the last `count` tasks of a lease. None was started, so no copy is running."""
        job = self._jobs[lease.batch.job]
        batch = lease.batch.part(lease.stop - count, lease.stop)
        lease.stop -= count
        self.end_copy(lease)
        job.return_tokens(count)
        if count and job.stopped is None and not job.copies.get(batch.start):
            job.waiting.put_back(batch)

    def find(self, id: int) -> Lease | None:
        """Find a lease, active or lost."""
        return self.active.get(id) or self.lost.get(id)

    def with_task(self, id: str, index: int) -> list[Lease]:
        """The leases, active and then lost, in which a task of a job may be running."""
        return [
            lease
            for leases in (self.active, self.lost)
            for lease in leases.values()
            if lease.batch.job == id and lease.next <= index < lease.stop
        ]

    def close_job(self, id: str) -> None:
        """Forget the leases of a job."""
        for lease in [lease for lease in self.active.values() if lease.batch.job == id]:
            self.remove(lease)
        for lease in [lease for lease in self.lost.values() if lease.batch.job == id]:
            del self.lost[lease.id]

    def _remember(self, lease: Lease) -> None:
        """Keep a lost lease for late reports, and forget those that are no longer needed."""
        self.lost[lease.id] = lease
        if len(self.lost) % 256 == 0:
            for old in list(self.lost.values()):
                redelivered = self._jobs[old.batch.job].waiting.redelivered
                if redelivered.isdisjoint(range(old.next, old.stop)):
                    del self.lost[old.id]
