"""Chooses what a holder gets next: of which job, how much, and when there will be more."""

from __future__ import annotations

from collections.abc import Callable

from dq.core import rates
from dq.core.batching import LONGEST_WORK_S
from dq.core.jobs import Job
from dq.core.lease_table import LeaseTable
from dq.core.leases import LeaseHolder
from dq.core.records import Batch
from dq.core.shares import TURN_S, Levels
from dq.core.speculation import Speculation


class Choosing:
    """Chooses among the jobs of a board.

    Args:
        jobs: the board's.
        holders: the board's.
        leases: the board's.

    Attributes:
        levels: put the jobs in turn.
        slots: how many task slots there are.
        speculates: whether a job may have its slow tasks run a second time.
    """

    def __init__(
        self, jobs: dict[str, Job], holders: dict[int, LeaseHolder], leases: LeaseTable
    ) -> None:
        self._jobs = jobs
        self._speculation = Speculation(jobs, holders, leases)
        self.levels = Levels()
        self.slots = 0
        self.speculates = False

    def wanted(
        self,
        holder: LeaseHolder,
        now: float,
        eligible: Callable[[Job], bool] | None,
        is_held_back: Callable[[Job], bool] | None,
    ) -> Batch | str | None:
        """See `Board.wanted`."""
        ready = [
            job
            for job in self._jobs.values()
            if job.has_more
            and job.stopped is None
            and (job.is_simple or (job.is_ready(now) and job.suits(holder)))
        ]
        if len(ready) > 1:
            ready = self.levels.in_turn(ready, now, self.slots)
        for job in ready:
            if eligible is not None and not eligible(job):
                continue
            batch = job.pop_waiting(now) if job.waiting.batches else None
            if batch is not None:
                self.levels.choose(job, holder, now)
                return batch
            if is_held_back is not None and is_held_back(job):
                continue
            if job.unbatched and job.has_room(self.slots):
                self.levels.choose(job, holder, now)
                return job.id
        if self.speculates and not self._has_more:
            return self._speculate(holder, now, eligible)
        return None

    def _speculate(
        self, holder: LeaseHolder, now: float, eligible: Callable[[Job], bool] | None
    ) -> Batch | None:
        """A copy of a task that runs for unusually long, if this holder may have it."""

        def may_have(job: Job) -> bool:
            if not job.suits(holder) or not job.is_ready(now):
                return False
            return eligible is None or eligible(job)

        batch = self._speculation.find(holder, now, may_have)
        if batch is not None:
            job = self._jobs[batch.job]
            job.use_tokens(batch.count)
            self.levels.choose(job, holder, now)
        return batch

    @property
    def _has_more(self) -> bool:
        return any(job.has_more for job in self._jobs.values())

    def due(self) -> float | None:
        """See `Board.due`."""
        jobs = [job for job in self._jobs.values() if job.bucket is not None or job.waiting.delayed]
        times = [due for job in jobs if (due := job.due()) is not None]
        if self.speculates and not self._has_more:
            slow = self._speculation.due()
            return slow if slow is not None else min(times, default=None)
        return min(times, default=None)

    def take_batch(self, job: Job, most: int | None) -> tuple[int, int]:
        """See `Board.take_batch`."""
        if job.unbatched == 1:  # for example a single call, which should be quick
            return job.take(1)
        longest = LONGEST_WORK_S
        if job.bucket is not None:
            longest = rates.WORK_S
        elif self._is_contested(job):
            longest = TURN_S
        size = job.sizer.size(job.remaining, self.slots, job.room(self.slots), longest)
        return job.take(min(size, most or job.unbatched))

    def _is_contested(self, job: Job) -> bool:
        """Whether another job has something to lease too."""
        return any(one.has_more and one is not job for one in self._jobs.values())
