"""What a master knows of its workers beyond their leases: who is there, and what each of them has.

`dq.dispatch.roster` decides what is told of it; here is where it learns.
"""

from __future__ import annotations

from dq._support.frozen import TYPE_CHECKING
from dq._support.naming import setting
from dq.core.leases import Lease, LeaseHolder
from dq.core.records import printable
from dq.dispatch.roster import LOOK, Note, Roster, Worker, ranges, tasks_of
from dq.dispatch.served_job import PLAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dq.dispatch.connections import Connection
    from dq.dispatch.state import DispatchState

TOGETHER = 2.0  # seconds within which the connections of a worker that is killed end


def _nothing() -> None:
    pass


class Presence:
    """Who works for a master. All of it is called under the lock of its `Dispatcher`, but for
    `enlist_plain`.

    Attributes:
        local: group of the workers that the master has started itself.
        only_plain: whether there will be no other tasks than those that plain clients put.
    """

    def __init__(self, state: DispatchState) -> None:
        self._state = state
        self._roster = Roster(state.clock())
        self.local = ""
        self.only_plain = False
        self.on_news: Callable[[], None] = _nothing  # called without the lock
        self._lack: list[str] = []  # of a function for what plain clients put, not yet told
        self._said_lack = False
        self._look_at = 0.0
        self._groups: dict[str, dict[int, LeaseHolder]] = {}
        self._lost: dict[str, tuple[float, int]] = {}  # by group: when, and how many tasks

    def meet(self, holder: LeaseHolder) -> None:
        """A connection of one of dq's own workers has said whose it is."""
        self._groups.setdefault(holder.group, {})[holder.id] = holder

    def enlist(self, connection: Connection, slots: int) -> None:
        """A supervisor has come."""
        holder = connection.holder
        local = bool(holder.group) and holder.group == self.local
        security = connection.channel.security()
        name, has_task = printable(holder.name), connection.has_default
        worker = Worker(name, slots, security, holder.group, local, has_task)
        self._roster.join(holder.id, worker, self._state.clock())
        if self.lacks_task(connection) and not local:
            self._say_lack(
                f"{worker} has nothing to call: it has no {setting('task')}, this master no TASK"
            )

    def enlist_plain(self, connection: Connection) -> None:
        """A plain client wants its first task."""
        connection.gets_tasks = True
        worker = Worker(connection.channel.peer(), 1, connection.channel.security())
        with self._state.lock:
            self._roster.join(connection.holder.id, worker, self._state.clock())
        self.on_news()

    def hear(self, connection: Connection, stopped: list[str]) -> None:
        """A supervisor has sent word, and which of its processes are stopped."""
        self._roster.hear(
            connection.holder.id, [printable(name) for name in stopped], self._state.clock()
        )

    def leave(self, connection: Connection) -> None:
        """A connection has ended, whoever's; before its leases are taken back."""
        if self._state.stopping:
            return  # which is why it has
        holder, now = connection.holder, self._state.clock()
        if holder.id in self._roster.workers:
            leases = self._leases(holder.group) if holder.group else connection.inputs_held
            unfinished = _count(leases) + self._lost_lately(holder.group, now)
            self._roster.leave(holder.id, unfinished, now)
        elif holder.is_slot:
            unfinished = _count(self._leases_of(holder)) + self._lost_lately(holder.group, now)
            self._lost[holder.group] = now, unfinished
        group = self._groups.get(holder.group, {})
        group.pop(holder.id, None)
        if not group:
            self._groups.pop(holder.group, None)
            self._lost.pop(holder.group, None)

    def _lost_lately(self, group: str, now: float) -> int:
        """Tasks that a worker's processes had when their connections ended, a moment before its
        own: with a worker that is killed, all of them end at about the same time."""
        at, count = self._lost.get(group, (0.0, 0))
        return count if now - at < TOGETHER else 0

    def lacks_task(self, connection: Connection) -> bool:
        """Whether there are tasks, or will be no others than those, for which neither the master
        nor this worker has a function."""
        return not connection.has_default and self.needs_task()

    def needs_task(self) -> bool:
        """Whether workers have to know what to do with the tasks that there are."""
        state = self._state
        return state.lacks_plain_task() and (self.only_plain or state.has_items_without_task())

    def notes(self) -> list[Note]:
        """What people should be told now."""
        now = self._state.clock()
        if now >= self._look_at:
            self._look_at = now + LOOK
            self._look_for_lack()
        notes = self._roster.notes(now, self.holdings)
        notes += [Note(served, warning=True) for served in self._lack]
        self._lack.clear()
        return notes

    def nobody(self) -> str | None:
        """In words, once, that there has been no worker for a while."""
        return None if self._state.board.draining else self._roster.nobody(self._state.clock())

    def _look_for_lack(self) -> None:
        """Say it of a plain client's tasks that nobody here can do."""
        if not self._state.has_items_without_task():
            return
        workers = self._roster.workers.values()
        if workers and not any(worker.has_task for worker in workers):
            self._say_lack("nothing says what to call with the tasks that clients have put")

    def _say_lack(self, text: str) -> None:
        if not self._said_lack:
            self._said_lack = True
            self._lack.append(f"{text}; start dq master with a TASK, or dq worker with --task TASK")

    def holdings(self, group: str, name: str) -> str:
        """The tasks that a group's process of that name has, or ("") all of them, and what ends
        that; for people."""
        leases = self._leases(group, name)
        if not leases:
            return ""
        numbers = [index for lease in leases for index in range(lease.next, lease.stop)]
        specs = [self._state.served_jobs[id].spec for id in {lease.batch.job for lease in leases}]
        held = tasks_of(len(numbers))
        if len(specs) == 1 and specs[0].id != PLAIN and specs[0].unpack != "call":
            held = f"task{'' if len(numbers) == 1 else 's'} {ranges(numbers)}"
        # Where only the supervisor is stopped, by Ctrl-Z say, its processes work on and report.
        end = f"{held} until it {'goes on' if name else 'reports'} or is ended"
        if all(spec.timeout is not None for spec in specs):
            return f"{end}, or {setting('timeout')} is over"
        return f"{end} ({setting('timeout')} would bound that)"

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


def _count(leases: Iterable[Lease]) -> int:
    return sum(lease.stop - lease.next for lease in leases)
