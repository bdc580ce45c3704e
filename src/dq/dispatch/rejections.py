"""Jobs that workers reject because they cannot load the function."""

from __future__ import annotations

from dq.core.charging import MAX_LOAD_DEATHS
from dq.core.leases import LeaseHolder
from dq.dispatch.delivery import Delivery
from dq.dispatch.pending_requests import PendingRequests
from dq.dispatch.state import DispatchState


class Rejections:
    """Keeps jobs from workers that have rejected them, until those workers reconnect.

    Everything here is guarded by the dispatcher's lock.

    Args:
        state: what the dispatcher's parts share.
        pending: wakes all requests from now on, since some must not have what there is.
        delivery: wakes the readers, since there may be no worker left for their job.

    Attributes:
        own_group: the group of the master's own workers, if there are no others. The master raises
            the reason for their rejection itself, so there is no notice, and the rejection is kept
            after they have ended.
    """

    def __init__(self, state: DispatchState, pending: PendingRequests, delivery: Delivery) -> None:
        self._board = state.board
        self._lock = state.lock
        self._pending = pending
        self._delivery = delivery
        self.own_group = ""

    def reject(self, holder: LeaseHolder, lease: int, reason: str) -> bool:
        """Requeue a lease whose job a worker rejects. Returns whether to notify users."""
        with self._lock:
            self._pending.has_refusals = True
            is_news = self._board.reject(holder, lease, reason)
            self._delivery.wake_readers()
            self._pending.announce()
        return is_news and holder.group != self.own_group

    def died_loading(self, group: str, lease: int, detail: str, *, again: bool) -> str:
        """Requeue a lease whose process died while it loaded the function. Returns why its worker
        is taken to have rejected the job, if it is from now on.

        Args:
            group: the worker's. Supervisors of the master's own end by themselves.
            lease: the process's.
            detail: how it died.
            again: whether the next process may do better.
        """
        most = None if group == self.own_group else MAX_LOAD_DEATHS if again else 1
        with self._lock:
            reason = self._board.charging.died_loading(group, lease, detail, most)
            self._pending.has_refusals = self._pending.has_refusals or bool(reason)
            self._delivery.wake_readers()
            self._pending.announce()
        return reason

    def readmit_to(self, job: str) -> None:
        """Offer a job to the workers again that have rejected it."""
        with self._lock:
            found = self._board.jobs.get(job)
            if found is not None:
                found.rejected.clear()
                found.load_deaths.clear()
                self._pending.announce()

    def readmit(self, group: str) -> None:
        """Forget what a worker has rejected, if none of its connections is left."""
        if self._pending.has_refusals and group != self.own_group:
            self._board.readmit(group)
