"""The board: who has which task. A pure state machine: no I/O, threads, locks or clock.

A task is *unbatched* (still in its source), *waiting* (in a requeued batch), *leased* (in a batch
that a holder has) or *recorded* (it has its one outcome). A batch is handled as a whole; single
tasks are handled only after a failure.

A holder is a connection. When it ends, its leases are requeued at once, in small pieces. From then
on two copies of a task may be running: the first outcome is recorded, and later ones are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from dq.core.batching import BatchSizer
from dq.core.blobs import Blob
from dq.core.cancelling import Cancelling
from dq.core.charging import Charging
from dq.core.choosing import Choosing
from dq.core.jobs import Job, Rules
from dq.core.lease_table import LeaseTable
from dq.core.leases import Lease, LeaseHolder, Report
from dq.core.recording import Recording
from dq.core.records import Batch, Outcome, Recorded
from dq.core.reporting import Reporting
from dq.core.skips import Skips


class Board:
    """All jobs, leases and holders of one master.

    Every method is a transition that succeeds or raises, and never waits. `now` is in seconds of
    any steady clock. A method that returns a list of `Recorded` returns what it has recorded.

    Args:
        lease_ids: an iterator of new lease numbers. They are hard to guess, so a client that
            names one must have been given it.

    >>> from dq.core.records import Done
    >>> board = Board(iter(range(100)))
    >>> job = board.open_job("j", Rules())
    >>> board.supply("j", 1); board.end("j")
    >>> me = LeaseHolder(id=1)
    >>> board.join(me)
    >>> board.wanted(me, now=0.0)
    'j'
    >>> start, count = board.take_batch("j")
    >>> lease = board.grant(me, Batch("j", start, count, b"in"), now=0.0)
    >>> [record] = board.report(me, Report(lease.id, 0, (Done(1, b"out"),)), now=1.0)
    >>> record.outcome.blob, job.finished
    (b'out', True)
    """

    def __init__(self, lease_ids: Iterator[int]) -> None:
        self.jobs: dict[str, Job] = {}
        self._table = LeaseTable(lease_ids, self.jobs)
        self.leases, self.lost, self.held = self._table.active, self._table.lost, self._table.held
        self.holders: dict[int, LeaseHolder] = {}
        self.is_selective = False
        self._recording = Recording()
        self._reporting = Reporting(self.jobs, self._table, self._recording)
        self.charging = Charging(self.jobs, self._table, self._recording)
        self._cancelling = Cancelling(self._table, self._recording)
        self._choosing = Choosing(self.jobs, self.holders, self._table)

    # Jobs and their inputs

    def open_job(self, id: str, rules: Rules, skips: Iterable[tuple[int, int]] = ()) -> Job:
        """Add a job without inputs.

        Args:
            id: its id.
            rules: what applies to its tasks.
            skips: ranges of indices, each with its first and the one after its last, in ascending
                order. They are not run, and the source does not yield their inputs.

        Raises:
            ValueError: the ranges overlap, or are not in ascending order.
        """
        sizer = BatchSizer(rules.batch)
        job = self.jobs[id] = Job(id=id, rules=rules, sizer=sizer, skips=Skips(skips))
        self._choosing.levels.enter(job)
        self._count_jobs()
        return job

    def supply(self, id: str, count: int) -> None:
        """Note that a job's source has `count` more inputs ready."""
        self.jobs[id].unbatched += count

    def end(self, id: str) -> None:
        """Note that a job's source has no more to come."""
        self.jobs[id].ended = True

    def consumed(self, id: str, records: int, nbytes: int) -> None:
        """Note that so many records of a job have been read by their reader."""
        job = self.jobs.get(id)
        if job is not None:
            job.unread -= records
            job.held_bytes -= nbytes

    def stop(self, id: str, reason: str) -> None:
        """Lease no more tasks of a job."""
        self.jobs[id].stop(reason)

    def leases_of(self, id: str) -> list[Lease]:
        """The active leases of a job."""
        return [lease for lease in self.leases.values() if lease.batch.job == id]

    def superseded(self, id: str) -> list[Lease]:
        """The active leases of a job whose task has its outcome from another copy."""
        copies = self.jobs[id].copies
        leases = self.leases_of(id)
        return [one for one in leases if one.copy_of is not None and one.copy_of not in copies]

    def close_job(self, id: str) -> None:
        """Forget a job. Later reports for it are dropped."""
        self.jobs.pop(id, None)
        self._table.close_job(id)
        self._choosing.levels.keep(self.jobs.values())
        self._count_jobs()

    def _count_jobs(self) -> None:
        rules = [job.rules for job in self.jobs.values()]
        speculates = self._choosing.speculates = any(rule.speculate for rule in rules)
        self.is_selective = speculates or any(rule.needs for rule in rules)

    @property
    def draining(self) -> bool:
        """Whether nothing more is leased and no failed task is retried."""
        return self._recording.draining

    @draining.setter
    def draining(self, yes: bool) -> None:
        self._recording.draining = yes

    # Holders

    @property
    def slots(self) -> int:
        """How many task slots there are."""
        return self._choosing.slots

    def join(self, holder: LeaseHolder) -> None:
        """Add a holder."""
        self.holders[holder.id] = holder
        self.held[holder.id] = set()
        self._choosing.slots += holder.is_slot

    def leave(self, holder: LeaseHolder) -> None:
        """Remove a holder, and requeue its leases at once."""
        if self.holders.pop(holder.id, None) is None:
            return
        self._choosing.slots -= holder.is_slot
        for id in sorted(self.held[holder.id], reverse=True):
            self._table.lose(self.leases[id])
        del self.held[holder.id]

    def readmit(self, group: str) -> None:
        """Forget which jobs a worker could not load, if none of its connections is left."""
        if not any(holder.group == group for holder in self.holders.values()):
            for job in self.jobs.values():
                job.rejected.pop(group, None)

    # Giving out

    def wanted(
        self,
        holder: LeaseHolder,
        now: float,
        eligible: Callable[[Job], bool] | None = None,
        is_held_back: Callable[[Job], bool] | None = None,
    ) -> Batch | str | None:
        """What to lease to this holder next: a requeued batch, the id of a job whose next inputs
        are to be batched, or None.

        Args:
            holder: the holder that asks.
            now: seconds.
            eligible: says whether the holder may have tasks of a job.
            is_held_back: says whether a job's next inputs are not to be leased for now.
        """
        if self._recording.draining:
            return None
        return self._choosing.wanted(holder, now, eligible, is_held_back)

    @property
    def has_more(self) -> bool:
        """Whether there may be something to lease for somebody."""
        for job in self.jobs.values():  # in four of a single call's steps: no call, and no any()
            if job.unbatched or job.waiting.batches or job.waiting.delayed:
                return True
        return False

    def due(self) -> float | None:
        """When there may be something to lease that must not be leased yet: a delayed batch, one
        that its job's rate holds back, or a copy of a slow task."""
        return self._choosing.due()

    def take_batch(self, id: str, most: int | None = None) -> tuple[int, int]:
        """Take a job's next inputs for a batch, at most `most` of them. Returns the index of the
        first one, and how many they are."""
        return self._choosing.take_batch(self.jobs[id], most)

    def take_waiting(self, id: str, now: float) -> Batch | None:
        """Take a job's first requeued batch, if it has one that may be leased now."""
        job = self.jobs[id]
        return job.pop_waiting(now) if job.is_ready(now) else None

    def grant(self, holder: LeaseHolder, batch: Batch, now: float) -> Lease | None:
        """Lease a batch to a holder. Returns None if its job has ended in the meantime."""
        job = self.jobs.get(batch.job)
        if job is None or job.stopped is not None:
            return None
        if batch.redelivered and not any(job.waiting.open_runs(batch)):
            return None  # another copy had its outcome in the meantime
        return self._table.add(holder, job, batch, now)

    def put_back(self, batch: Batch) -> None:
        """Requeue a batch that was not leased after all, at the front."""
        job = self.jobs.get(batch.job)
        if job is not None and job.stopped is None:
            job.put_back(batch)

    def record(self, batch: Batch, outcome: Outcome, worker: str) -> list[Recorded]:
        """Record the outcome of tasks that were batched but never leased."""
        self.jobs[batch.job].return_tokens(batch.count)
        return self._recording.record(self.jobs[batch.job], batch, outcome, worker)

    # Taking in

    def report(self, holder: LeaseHolder, report: Report, now: float) -> list[Recorded]:
        """Record the outcomes in a report.

        Raises:
            ProtocolError: the report does not fit the lease it names.
        """
        return self._reporting.report(holder, report, now)

    def reject(self, holder: LeaseHolder, lease_id: int, reason: str) -> bool:
        """Requeue a lease, without a charge, since the holder's worker cannot load the function.
        Returns whether this is the worker's first refusal of the job."""
        return self._reporting.reject(holder, lease_id, reason)

    def ack(self, lease_id: int, now: float) -> None:
        """End a lease without an outcome: a plain client has acknowledged the item."""
        self._reporting.ack(lease_id, now)

    def cancel(self, id: str, index: int, blob: Blob) -> tuple[Recorded | None, list[Lease]]:
        """Record that a task was cancelled. Returns None in place of the record if the task has an
        outcome, or does not exist; and the leases in which it may be running.

        Args:
            id: of the job.
            index: of the task.
            blob: what stands for its input if that is in the source still.
        """
        return self._cancelling.cancel(self.jobs[id], index, blob)

    def abandon(self, lease_id: int) -> None:
        """Requeue the tasks of a lease, without a charge: its process is being ended because one of
        them was cancelled."""
        lease = self.leases.get(lease_id)
        if lease is not None:
            self._table.lose(lease)

    def died(
        self, lease_id: int, index: int, detail: str, now: float, *, span: int = 1
    ) -> list[Recorded]:
        """Note that a worker process died in one of `span` tasks of a lease, from `index` on."""
        return self.charging.died(lease_id, index, detail, span)

    def timed_out(self, lease_id: int, index: int, now: float) -> list[Recorded]:
        """Note that a task exceeded its time-out."""
        return self.charging.timed_out(lease_id, index, now)

    def expire(self, now: float) -> list[Recorded]:
        """End leases that have exceeded their time-out by `EXPIRY_GRACE_S`."""
        return self.charging.expire(now)
