"""Which task is charged when a worker process dies or exceeds a time-out."""

from __future__ import annotations

from dq.core.jobs import Job
from dq.core.lease_table import LeaseTable
from dq.core.recording import Recording
from dq.core.records import Batch, Failed, Failure, Recorded

EXPIRY_GRACE_S = 10.0  # after a time-out, in which a supervisor has to report it
MAX_LOAD_DEATHS = 3  # of a worker's processes in a row, while they load one job's function
SUSPECTS = 64  # suspected tasks that are each isolated at once; with more, see `died`


class Charging:
    """Charges tasks with the deaths and time-outs that supervisors report, once for each lease.

    Args:
        jobs: the board's.
        leases: the board's.
        recording: records the tasks that have used up their attempts.
    """

    def __init__(self, jobs: dict[str, Job], leases: LeaseTable, recording: Recording) -> None:
        self._jobs = jobs
        self._leases = leases
        self._recording = recording

    def died(self, lease_id: int, index: int, detail: str, span: int = 1) -> list[Recorded]:
        """Charge the task that a worker process was running when it died. If it may have been any
        of `span` tasks from `index` on, charge none, and requeue each of them by itself."""
        if span > 1:
            self._suspect(lease_id, index, index + span)
            return []
        found = self._charge(lease_id, index)
        if found is None:
            return []
        job, batch, name = found
        deaths = job.charge_death(index)
        if deaths < job.rules.max_deaths:
            return []
        failure = Failure("WorkerDied", f"its worker process died {_times(deaths)}: {detail}")
        job.deaths[index] -= 1  # `attempts` adds the one that is being recorded
        return self._recording.record(job, batch, Failed(failure), name)

    def died_loading(
        self, group: str, lease_id: int, detail: str, most: int | None = MAX_LOAD_DEATHS
    ) -> str:
        """Requeue the tasks of a process that died while it loaded their job's function. None is
        charged. If that happens to a worker again and again, it is taken to have rejected the job.

        Args:
            group: the worker's.
            lease_id: the process's.
            detail: how it died.
            most: how many such deaths in a row are a rejection; None for any number.

        Returns:
            Why the worker has rejected the job, if that is news.
        """
        lease = self._leases.find(lease_id)
        if lease is None or lease.charged or lease.holder.group != group:
            return ""
        lease.charged = True
        if lease.id in self._leases.active:
            self._leases.lose(lease)
        job = self._jobs[lease.batch.job]
        deaths = job.load_deaths[group] = job.load_deaths.get(group, 0) + 1
        if most is None or deaths < most or group in job.rejected:
            return ""
        job.rejected[group] = (
            f"worker {lease.holder.name} cannot load this job: a process that imports its function"
            f" {detail}{_in_a_row(deaths)}"
        )
        return job.rejected[group]

    def timed_out(self, lease_id: int, index: int, now: float) -> list[Recorded]:
        """Charge a task that exceeded its time-out, and requeue the rest of its batch."""
        found = self._charge(lease_id, index)
        if found is None:
            return []
        job, batch, name = found
        limit = job.rules.timeout or 0.0
        failed = Failed(Failure("TimeoutError", f"ran longer than {limit:g} s"), seconds=limit)
        return self._recording.take(job, batch, failed, name, now, waiting=True)

    def expire(self, now: float) -> list[Recorded]:
        """End leases that have exceeded their time-out by `EXPIRY_GRACE_S`."""
        recorded: list[Recorded] = []
        for lease in list(self._leases.active.values()):
            timeout = self._jobs[lease.batch.job].rules.timeout
            if timeout is None or not lease.holder.is_slot:
                continue
            count = lease.stop - lease.next
            if now - lease.granted > timeout * count + EXPIRY_GRACE_S:
                if count == 1:
                    recorded += self.timed_out(lease.id, lease.next, now)
                else:
                    self._leases.lose(lease)
        return recorded

    def _charge(self, lease_id: int, index: int) -> tuple[Job, Batch, str] | None:
        """The task that a supervisor names, if it has no outcome and this lease was not charged."""
        lease = self._leases.find(lease_id)
        if lease is None or not lease.next <= index < lease.stop:
            return None
        job = self._jobs[lease.batch.job]
        if lease.id in self._leases.active:
            lease.suspect = index
            self._leases.lose(lease)
        if lease.charged or index not in job.waiting.redelivered:
            return None
        lease.charged = True
        job.waiting.isolate(index)
        return job, lease.batch.part(index, index + 1, redelivered=True), lease.holder.name

    def _suspect(self, lease_id: int, start: int, stop: int) -> None:
        lease = self._leases.find(lease_id)
        if lease is None or lease.charged:
            return
        if lease.id in self._leases.active:
            self._leases.lose(lease)
        lease.charged = True
        if stop - start > SUSPECTS:
            return  # as it is requeued in pieces, later deaths narrow it down
        job = self._jobs[lease.batch.job]
        for index in range(max(start, lease.next), min(stop, lease.stop)):
            if index in job.waiting.redelivered:
                job.suspect(index)


def _in_a_row(count: int) -> str:
    return f", {_times(count)} in a row" if count > 1 else ""


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
