"""Supervisors' reports about task processes that have died."""

from __future__ import annotations

from dq.core.leases import LeaseHolder
from dq.dispatch.connections import Connections
from dq.dispatch.delivery import Delivery
from dq.dispatch.pending_requests import PendingRequests
from dq.dispatch.state import DispatchState

DEATH_REPORT_TIMEOUT_S = 1.0  # how long a dead process's tasks wait for its supervisor's report


class DeathReports:
    """Which task a process was in when it died, as its supervisor reports it.

    A process's connection ends when it dies, and its supervisor reports the death within
    milliseconds. If its tasks were requeued at once, a poison task could kill other processes in
    that time without a charge. So they are requeued once the report has arrived: which task the
    process was in, if any, and then that it has ended. Other tasks may have been sent to it when it
    was dead already.

    Everything here is guarded by the dispatcher's lock.

    Args:
        state: what the dispatcher's parts share.
        pending: woken when tasks are requeued.
        connections: notified of each report.
        delivery: gets the outcomes that a report has caused.
    """

    def __init__(
        self,
        state: DispatchState,
        pending: PendingRequests,
        connections: Connections,
        delivery: Delivery,
    ) -> None:
        self._state = state
        self._pending = pending
        self._board = state.board
        self._changed = connections.changed
        self._delivery = delivery
        # Processes that have ended, by group and name, of which a connection is still here.
        self._ended: set[tuple[str, str]] = set()

    def take(self, group: str, what: str, lease: int, index: int, span: int, detail: str) -> None:
        """Handle a report that a process "died" or had a "timeout" in a task, is being ended for a
        "cancelled" one, or has "ended" and was in no other task.

        Args:
            group: the worker's.
            what: one of these four.
            lease: the process's.
            index: the task, or the first of those that it may have been in.
            span: how many tasks it may have been in.
            detail: how the process ended; its name for the last of the four.
        """
        with self._state.lock:
            now = self._state.clock()
            if what == "timeout":
                self._delivery.deliver(self._board.timed_out(lease, index, now))
            elif what == "died":
                self._delivery.deliver(self._board.died(lease, index, detail, now, span=span))
            elif what == "cancelled":
                self._abandon(lease)
            elif what == "ended" and self._is_connected(group, detail):
                self._ended.add((group, detail))
            self._changed.notify_all()

    def _abandon(self, lease: int) -> None:
        found = self._board.leases.get(lease)
        if found is not None:
            self._board.abandon(lease)
            # It may be waiting for the last lease of a job that has been stopped.
            self._delivery.notify_reader(found.batch.job)
            self._pending.announce()

    def await_death_report(self, holder: LeaseHolder) -> None:
        """Wait until a task slot's leases may be requeued. It is called with the lock held, and
        releases the lock while it waits."""
        if not holder.is_slot:
            return
        held = self._board.held.get(holder.id, set())  # a report that names a task empties it
        process = holder.group, holder.name

        def may_requeue() -> bool:
            return (
                not held
                or process in self._ended
                or self._state.stopping
                or not self.has_supervisor(holder.group)
            )

        self._changed.wait_for(may_requeue, DEATH_REPORT_TIMEOUT_S)
        if process in self._ended and not self._is_connected(*process, besides=holder.id):
            self._ended.discard(process)

    def _is_connected(self, group: str, name: str, besides: int = 0) -> bool:
        """Whether a connection of a process is here, besides one."""
        holders = self._board.holders.values()
        return any(h.name == name and h.group == group and h.id != besides for h in holders)

    def has_supervisor(self, group: str) -> bool:
        """Whether the supervisor of a group is connected."""
        return any(h.group == group and not h.is_slot for h in self._board.holders.values())
