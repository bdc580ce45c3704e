"""Leases a task that runs for unusually long a second time, to another slot.

The first outcome of the two copies is recorded, as for any task that may be running twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dq.core.jobs import Job
from dq.core.lease_table import LeaseTable
from dq.core.leases import Lease, LeaseHolder
from dq.core.records import Batch

SLOW = 3  # times as long as nearly all others
NEARLY_ALL = 0.95
LEAST_SEEN = 3  # tasks that have ended, without which nothing is known about the others
LEAST_S = 0.1  # seconds; to start a shorter task again takes as long as to wait for it
RECHECK_S = 0.1  # seconds until the next look, if a slow task was not for the holder that asked


class Speculation:
    """Finds the tasks that are worth a second try.

    Args:
        jobs: the board's.
        holders: the board's.
        leases: the board's.
    """

    def __init__(
        self, jobs: dict[str, Job], holders: dict[int, LeaseHolder], leases: LeaseTable
    ) -> None:
        self._jobs = jobs
        self._holders = holders
        self._leases = leases
        self._recheck_at = 0.0

    def find(
        self, holder: LeaseHolder, now: float, eligible: Callable[[Job], bool]
    ) -> Batch | None:
        """A copy of the slowest task that this holder may have, or None. Its job must not have had
        a copy of it leased before."""
        slow = [(due, lease) for due, lease in self._candidates() if due <= now]
        for _, lease in sorted(slow, key=lambda pair: pair[0]):
            job = self._jobs[lease.batch.job]
            if holder.is_slot and eligible(job) and self._is_elsewhere(holder, lease.holder):
                return self._leases.copy(lease)
        if slow:
            self._recheck_at = now + RECHECK_S
        return None

    def due(self) -> float | None:
        """When the next task will have run for unusually long."""
        earliest = min((due for due, _ in self._candidates()), default=None)
        return None if earliest is None else max(earliest, self._recheck_at)

    def _candidates(self) -> Iterator[tuple[float, Lease]]:
        """The leases of single tasks that have no copy, and when each has run unusually long.
        Others soon are of single tasks, since a worker hands back what waits for a slow one."""
        limits = {id: _limit(job) for id, job in self._jobs.items()}
        for lease in self._leases.active.values():
            limit = limits[lease.batch.job]
            if limit is None or lease.stop - lease.next != 1 or not lease.holder.is_slot:
                continue
            job = self._jobs[lease.batch.job]
            if lease.batch.redelivered and lease.next not in job.waiting.redelivered:
                continue  # it has its outcome from another copy
            if lease.next not in job.copies:
                yield lease.granted + limit, lease

    def _is_elsewhere(self, holder: LeaseHolder, other: LeaseHolder) -> bool:
        """Whether a holder is of another worker than this; or another slot, if there is only one
        worker."""
        if holder.group != other.group:
            return True
        return holder.id != other.id and not any(
            one.is_slot and one.group != other.group for one in self._holders.values()
        )


def _limit(job: Job) -> float | None:
    """After how many seconds a task of this job runs for unusually long, if that is known."""
    durations = job.durations
    if durations is None or job.stopped is not None or durations.count < LEAST_SEEN:
        return None
    return max(SLOW * durations.quantile(NEARLY_ALL), LEAST_S)
