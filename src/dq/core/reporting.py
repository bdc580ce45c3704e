"""How what a holder reports of its lease is taken in."""

from __future__ import annotations

from dq.core.batching import BatchSizer
from dq.core.jobs import Job
from dq.core.lease_table import LeaseTable
from dq.core.leases import Lease, LeaseHolder, Report
from dq.core.recording import Recording
from dq.core.records import Done, Recorded
from dq.errors import ProtocolError


class Reporting:
    """Takes in reports, of leases that are held and of those that were lost.

    Args:
        jobs: the board's.
        leases: the board's.
        recording: what the outcomes go to.
    """

    def __init__(self, jobs: dict[str, Job], leases: LeaseTable, recording: Recording) -> None:
        self._jobs = jobs
        self._leases = leases
        self._recording = recording

    def report(self, holder: LeaseHolder, report: Report, now: float) -> list[Recorded]:
        """Take in outcomes.

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
        recorded: list[Recorded] = []
        for outcome in report.outcomes:
            batch = lease.batch.part(lease.next, lease.next + outcome.count)
            lease.next += outcome.count
            recorded += self._recording.take(job, batch, outcome, holder.name, now)
        if count:
            _measure(job.sizer, lease, report, count, now)
        if lease.next == lease.stop:
            self._leases.remove(lease)
        return recorded

    def _report_late(self, report: Report, now: float) -> list[Recorded]:
        """Outcomes for a lease that was lost, from a holder that came back. It may say the same
        again, if the answer was lost: what was taken in counts once."""
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


def _measure(sizer: BatchSizer, lease: Lease, report: Report, count: int, now: float) -> None:
    nbytes = sum(len(done.blob) for done in report.outcomes if isinstance(done, Done))
    busy = min(report.busy, now - lease.given)  # it may say what it likes
    if lease.next < lease.stop:
        sizer.part(count, busy, nbytes)
    else:
        # What was reported on the way was handed over while the worker went on.
        elapsed = now - lease.given - lease.busy
        sizer.observe(count, busy, elapsed, nbytes)
    lease.granted = now
    lease.busy += busy
