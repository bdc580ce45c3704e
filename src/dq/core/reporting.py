"""Handles what lease holders say of their leases."""

from __future__ import annotations

from dq.core.jobs import Job
from dq.core.lease_table import LeaseTable
from dq.core.leases import Lease, LeaseHolder, Report
from dq.core.recording import Recording
from dq.core.records import Done, Recorded
from dq.errors import ProtocolError


class Reporting:
    """Handles reports on leases, active or lost.

    Args:
        jobs: the board's.
        leases: the board's.
        recording: records the outcomes.
    """

    def __init__(self, jobs: dict[str, Job], leases: LeaseTable, recording: Recording) -> None:
        self._jobs = jobs
        self._leases = leases
        self._recording = recording

    def report(self, holder: LeaseHolder, report: Report, now: float) -> list[Recorded]:
        """Record the outcomes in a report.

        Raises:
            ProtocolError: the report does not fit the lease it names.
        """
        lease = self._leases.active.get(report.lease)
        if lease is None:
            return self._report_late(report, now)
        if lease.holder is not holder:
            raise ProtocolError("a report on somebody else's lease")
        count = report.count
        if report.first != lease.next or count + report.handed_back > lease.stop - lease.next:
            raise ProtocolError("a report that does not fit its lease")
        job = self._jobs[lease.batch.job]
        if report.handed_back:
            self._leases.hand_back(lease, report.handed_back)
        if count:
            if job.load_deaths:
                job.load_deaths.pop(holder.group, None)
            _measure(job, lease, report, count, now)
            if lease.copy_of is not None:
                self._leases.end_copy(lease)
        recorded: list[Recorded] = []
        for outcome in report.outcomes:
            batch = lease.batch.part(lease.next, lease.next + outcome.count)
            lease.next += outcome.count
            recorded += self._recording.take(job, batch, outcome, holder.name, now)
        if lease.next == lease.stop:
            self._leases.remove(lease)
        return recorded

    def reject(self, holder: LeaseHolder, lease_id: int, reason: str) -> bool:
        """See `Board.reject`."""
        lease = self._leases.active.get(lease_id)
        if lease is None or lease.holder is not holder:
            return False
        job = self._jobs[lease.batch.job]
        known = holder.group in job.rejected
        job.rejected[holder.group] = reason
        self._leases.hand_back(lease, lease.stop - lease.next)
        self._leases.remove(lease)
        return not known

    def ack(self, lease_id: int, now: float) -> None:
        """See `Board.ack`."""
        lease = self._leases.active.get(lease_id)
        if lease is None:
            return
        job = self._jobs[lease.batch.job]
        rest = lease.rest()
        # Another copy of a redelivered task may have been recorded in the meantime.
        if rest.redelivered:
            job.outstanding -= sum(run.count for run in job.waiting.open_runs(rest))
        else:
            job.outstanding -= rest.count
        job.settle(rest)
        job.share.report(lease, 1.0, now - lease.granted, now)
        lease.granted = now
        self._leases.remove(lease)

    def _report_late(self, report: Report, now: float) -> list[Recorded]:
        """Record outcomes for a lost lease, from a holder that has reconnected. If the answer to
        a report was lost, the holder sends it again; its outcomes count once."""
        lease = self._leases.lost.get(report.lease)
        if lease is None:
            return []
        first, count = report.first, report.count
        if not lease.batch.start <= first <= first + count <= lease.batch.stop:
            raise ProtocolError("a report that does not fit its lease")
        job, name = self._jobs[lease.batch.job], lease.holder.name
        recorded: list[Recorded] = []
        for outcome in report.outcomes:
            batch = lease.batch.part(first, first + outcome.count, redelivered=True)
            first = batch.stop
            if first > lease.next:
                lease.next = first
                recorded += self._recording.take(job, batch, outcome, name, now, waiting=True)
        return recorded


def _measure(job: Job, lease: Lease, report: Report, count: int, now: float) -> None:
    sizer, left = job.sizer, lease.stop - lease.next
    nbytes = sum(len(done.blob) for done in report.outcomes if isinstance(done, Done))
    busy = min(report.busy, now - lease.given)  # a client may report any number
    if count < left:
        sizer.part(count, busy, nbytes)
    else:
        # Earlier partial reports took no time from the tasks: the worker went on meanwhile.
        elapsed = now - lease.given - lease.busy
        sizer.observe(count, busy, elapsed, nbytes)
    job.share.report(lease, count / left, busy, now)
    if job.durations is not None:
        job.durations.add(busy / count, count)
    lease.granted = now
    lease.busy += busy
