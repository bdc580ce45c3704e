"""Jobs that workers reject, since they cannot load the function."""

from __future__ import annotations

from dq.core.leases import LeaseHolder
from dq.dispatch.delivery import Delivery
from dq.dispatch.pending_requests import PendingRequests
from dq.dispatch.state import DispatchState


class Rejections:
    """Keeps jobs from workers that cannot do them, and lets these try again when they come back.

    All of it is guarded by the dispatcher's lock.

    Args:
        state: what the dispatcher's parts share.
        pending: wakes all its requests from now on, since some may not have what there is.
        delivery: its readers are woken, since there may be no worker left for their job.

    Attributes:
        own_group: of the master's own workers, where there are no others: the master raises what
            they reject, so it is not said here, and is kept when these workers have ended.
    """

    def __init__(self, state: DispatchState, pending: PendingRequests, delivery: Delivery) -> None:
        self._board = state.board
        self._lock = state.lock
        self._pending = pending
        self._delivery = delivery
        self.own_group = ""

    def reject(self, holder: LeaseHolder, lease: int, reason: str) -> bool:
        """Take a lease back whose job a worker cannot do; whether people should be told."""
        with self._lock:
            self._pending.has_refusals = True
            is_news = self._board.refuse(holder, lease, reason)
            self._delivery.wake_readers()
            self._pending.announce()
        return is_news and holder.group != self.own_group

    def readmit(self, group: str) -> None:
        """Forget what a worker has rejected, once none of its connections is left."""
        if self._pending.has_refusals and group != self.own_group:
            self._board.readmit(group)
