"""The tasks that each worker holds, and those that it leaves unfinished."""

from __future__ import annotations

from collections.abc import Iterable

from dq._support.naming import setting
from dq.core.leases import Lease, LeaseHolder
from dq.dispatch.served_job import PLAIN
from dq.dispatch.state import DispatchState
from dq.dispatch.wording import count_of, ranges

KILLED_TOGETHER_S = 2.0  # in which all connections of a killed worker end


class HeldTasks:
    """The leases of dq's own workers, by group, which all connections of a worker have in common.
    The dispatcher's lock guards it.

    Args:
        state: what the dispatcher's parts share.
    """

    def __init__(self, state: DispatchState) -> None:
        self._state = state
        self._groups: dict[str, dict[int, LeaseHolder]] = {}
        self._lost: dict[str, tuple[float, int]] = {}  # group: when tasks were lost, and how many

    def add(self, holder: LeaseHolder) -> None:
        """Add a connection of a worker."""
        self._groups.setdefault(holder.group, {})[holder.id] = holder

    def remove(self, holder: LeaseHolder) -> None:
        """Remove a connection that has ended."""
        group = self._groups.get(holder.group, {})
        group.pop(holder.id, None)
        if not group:
            self._groups.pop(holder.group, None)
            self._lost.pop(holder.group, None)

    def slot_lost(self, holder: LeaseHolder, now: float) -> None:
        """Note that a task slot's connection ends; called before its leases are requeued."""
        count = unfinished_of(self._leases_of(holder)) + self._lost_lately(holder.group, now)
        self._lost[holder.group] = now, count

    def left_behind(self, group: str, now: float) -> int:
        """How many unfinished tasks a worker leaves when its supervisor's connection ends."""
        return unfinished_of(self._leases(group)) + self._lost_lately(group, now)

    def _lost_lately(self, group: str, now: float) -> int:
        """How many tasks a worker's processes lost shortly before its supervisor's connection
        ended. When a worker is killed, all its connections end at about the same time."""
        at, count = self._lost.get(group, (0.0, 0))
        return count if now - at < KILLED_TOGETHER_S else 0

    def described(self, group: str, name: str) -> str:
        """Describe to users the tasks that one process of a group holds, or that all of them hold
        if the name is "", and until when."""
        leases = self._leases(group, name)
        if not leases:
            return ""
        numbers = [index for lease in leases for index in range(lease.next, lease.stop)]
        served_jobs = self._state.served_jobs
        specs = [served_jobs[id].spec for id in {lease.batch.job for lease in leases}]
        held = count_of(len(numbers), "task")
        if len(specs) == 1 and specs[0].id != PLAIN and specs[0].unpack != "call":
            held = f"task{'' if len(numbers) == 1 else 's'} {ranges(numbers)}"
        # If only the supervisor is stopped, for example by Ctrl-Z, its processes go on and report.
        end = f"{held} until it {'goes on' if name else 'reports'} or is ended"
        if all(spec.timeout is not None for spec in specs):
            return f"{end}, or {setting('timeout')} is over"
        return f"{end} ({setting('timeout')} would bound that)"

    def busy_slots(self, group: str) -> int:
        """How many of a group's task slots have tasks."""
        held = self._state.board.held
        return sum(1 for id in self._groups.get(group, ()) if held.get(id))

    def _leases(self, group: str, name: str = "") -> list[Lease]:
        return [
            lease
            for holder in self._groups.get(group, {}).values()
            if name in ("", holder.name)
            for lease in self._leases_of(holder)
        ]

    def _leases_of(self, holder: LeaseHolder) -> list[Lease]:
        board = self._state.board
        return [board.leases[id] for id in board.held.get(holder.id, ())]


def unfinished_of(leases: Iterable[Lease]) -> int:
    """How many tasks of these leases have no outcome yet."""
    return sum(lease.stop - lease.next for lease in leases)
