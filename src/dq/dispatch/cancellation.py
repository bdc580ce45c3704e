"""Cancels tasks and jobs, those that run as well."""

from __future__ import annotations

from dq.data import batches
from dq.dispatch.commands import Commands
from dq.dispatch.delivery import Delivery
from dq.dispatch.job_registry import JobRegistry
from dq.dispatch.served_job import PLAIN
from dq.dispatch.state import DispatchState


class Cancellation:
    """Cancels tasks. One that has not begun is never run. One that runs is ended by its supervisor,
    and the other tasks of its batch are requeued without a charge. The task's outcome is recorded
    at once in both cases.

    Args:
        state: what the dispatcher's parts share.
        commands: tells supervisors.
        delivery: passes the records on.
        jobs: stops jobs.
    """

    def __init__(
        self,
        state: DispatchState,
        commands: Commands,
        delivery: Delivery,
        jobs: JobRegistry,
    ) -> None:
        self._state = state
        self._board = state.board
        self._commands = commands
        self._delivery = delivery
        self._jobs = jobs

    def cancel_task(self, job: str, index: int) -> bool:
        """Cancel one task of a job. Returns False if it has its outcome already, is unknown, or
        belongs to plain clients, which can be told nothing."""
        with self._state.lock:
            served = self._state.served_jobs.get(job)
            if served is None or job == PLAIN or served.is_replayed(index):
                return False
            recorded, leases = self._board.cancel(job, index, batches.dump([None]))
            if recorded is None:
                return False
            served.drop_cancelled()
            for lease in leases:
                self._commands.send(lease.holder.group, "cancel", lease.id, index)
            sink = served.sink
            if sink is None:
                self._delivery.deliver([recorded], ran=False)
        if sink is not None:
            # Not with the other records' sinks: those run a user's code, for which this thread,
            # which may hold any lock of the user's, is the wrong one.
            sink(recorded)
        return True

    def cancel_job(self, job: str) -> int:
        """Stop a job, and end its tasks that run. They have no outcome. Returns how many batches
        are being ended; 0 if the job is unknown or belongs to plain clients."""
        with self._state.lock:
            served = self._state.served_jobs.get(job)
            if served is None or job == PLAIN:
                return 0
            self._jobs.halt(served, "cancelled")
            served.job.ending = True
            self.end_running(job)
            return served.job.leases

    def end_running(self, job: str) -> None:
        """End the tasks of a job that has been stopped; called with the lock held."""
        for lease in self._board.leases_of(job):
            if not lease.ending:
                lease.ending = True
                self._commands.send(lease.holder.group, "cancel", lease.id)

    def end_superseded(self, job: str) -> None:
        """End the tasks of a job that have their outcome from another copy; called with the lock
        held."""
        for lease in self._board.superseded(job):
            if not lease.ending:
                lease.ending = True
                self._commands.send(lease.holder.group, "cancel", lease.id, lease.next)
