"""Ends the processes of tasks that were cancelled."""

from __future__ import annotations

from collections.abc import Iterable

from dq.worker import charges, groups
from dq.worker.cells import LEASE, LEAVING
from dq.worker.charges import Charge
from dq.worker.child import Child
from dq.worker.control import Control

KILL_AFTER_S = 2.0  # after SIGTERM, in which a task may clean up
KEEP_S = 60.0  # to wait for a lease that was cancelled on its way here

ANY = -1  # in place of a task's index


class Cancelling:
    """Ends processes while they run a task that was cancelled, without a charge.

    A command may come before its lease does, or while an earlier task of the batch runs. It is kept
    until the lease has ended.

    Args:
        control: tells the master which lease is given up.
        threads: how many slots a process has.
    """

    def __init__(self, control: Control, threads: int) -> None:
        self._control = control
        self._threads = threads
        self._wanted: dict[int, set[int]] = {}  # by lease: the tasks to end
        self._until: dict[int, float] = {}  # by lease: when to forget them

    def add(self, lease: int, index: int, now: float) -> None:
        """Have a task ended, or any task of a lease if the index is `ANY`."""
        self._wanted.setdefault(lease, set()).add(index)
        self._until[lease] = now + KEEP_S

    def enforce(self, children: Iterable[Child], now: float) -> None:
        """End processes that run cancelled tasks, and kill those that have not ended in time."""
        for child in children:
            if child.kill_at and now >= child.kill_at:
                groups.kill(child.pid)
            elif self._wanted and not child.kill_reason:
                self._check(child, now)
        for lease in [lease for lease, until in self._until.items() if now >= until]:
            del self._until[lease], self._wanted[lease]

    def _check(self, child: Child, now: float) -> None:
        ended = [view[LEASE] for view in child.slot_views(self._threads) if self._is_due(view, now)]
        if not ended:
            return
        child.kill_reason, child.is_charged = "ran a task that was cancelled", True
        child.kill_at = now + KILL_AFTER_S
        child.cells.view[LEAVING] = 1  # a task that survives SIGTERM must not be followed by others
        for lease in ended:
            charge = Charge(what="cancelled", lease=lease, index=0, span=1, detail="")
            self._control.charge(charge)
        self._control.send_charges()
        groups.terminate(child.pid)

    def _is_due(self, view: memoryview, now: float) -> bool:
        """Whether a slot runs a task that was cancelled."""
        lease = view[LEASE]
        wanted = self._wanted.get(lease)
        if wanted is None:
            return False
        self._until[lease] = now + KEEP_S
        start, span = charges.under_way(view)
        return ANY in wanted or any(start <= index < start + span for index in wanted)
