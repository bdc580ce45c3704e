"""Commands to workers, which each gets as the answer to its next beat."""

from __future__ import annotations

import threading
from itertools import count

from dq.core.beats import Command
from dq.core.leases import LeaseHolder
from dq.dispatch.state import DispatchState
from dq.transport.limits import HEARTBEAT_INTERVAL_S

# Of the master's processor, for one beat: `tests/benchmarks/beats.py` measures 144 to 168 µs with a
# thousand machines of eight busy slots.
BEAT_COST_S = 200e-6
BEAT_SHARE = 0.02  # of one processor, which the beats of all workers may take
BEAT_INTERVAL_S = 1.0  # between two beats of a worker, if there are few


class Mailbox:
    """The commands that one worker has not confirmed yet.

    Attributes:
        connections: ids of the worker's connections.
        bell: a lock that is held until there is a new command.
        is_closed: whether a later connection of the worker has taken its place.
    """

    __slots__ = ("bell", "commands", "connections", "is_closed")

    def __init__(self) -> None:
        self.connections: set[int] = set()
        self.commands: list[Command] = []
        self.bell = threading.Lock()
        self.bell.acquire()
        self.is_closed = False

    def ring(self) -> None:
        """Wake the thread that waits."""
        if self.bell.locked():
            self.bell.release()


class Commands:
    """All workers' mailboxes, by group, which all connections of a worker have in common. The
    dispatcher's lock guards it.

    A worker has a mailbox from its first connection to its last: a slot may have a task before the
    supervisor has connected, or while it connects again, and the task may be cancelled then.

    A command stays in its mailbox until a beat confirms it, since the answer that brings it may be
    lost. To get it twice does no harm.

    Args:
        state: what the dispatcher's parts share.
    """

    def __init__(self, state: DispatchState) -> None:
        self._state = state
        self._mailboxes: dict[str, Mailbox] = {}
        self._numbers = count(1)

    def join(self, holder: LeaseHolder) -> None:
        """Add a connection of a worker."""
        self._mailboxes.setdefault(holder.group, Mailbox()).connections.add(holder.id)

    def leave(self, holder: LeaseHolder) -> None:
        """Remove a connection that has ended."""
        mailbox = self._mailboxes.get(holder.group)
        if mailbox is None:
            return  # it is a plain client's
        mailbox.connections.discard(holder.id)
        if not mailbox.connections:
            del self._mailboxes[holder.group]
            self._close(mailbox)

    def open(self, group: str) -> Mailbox:
        """The mailbox of a worker whose connection for beats has just been opened."""
        mailbox, before = Mailbox(), self._mailboxes[group]
        mailbox.commands, mailbox.connections = before.commands, before.connections
        self._mailboxes[group] = mailbox
        self._close(before)
        return mailbox

    def _close(self, mailbox: Mailbox) -> None:
        mailbox.is_closed = True
        mailbox.ring()

    def send(self, group: str, what: str, lease: int = 0, index: int = -1) -> int:
        """Have a worker told something. Returns the command's number; 0 if there is no such
        worker."""
        mailbox = self._mailboxes.get(group)
        if mailbox is None:
            return 0
        command = Command(next(self._numbers), what, lease, index)
        mailbox.commands.append(command)
        mailbox.ring()
        return command.number

    def wake_all(self) -> None:
        """Answer all beats now, since the master stops."""
        for mailbox in self._mailboxes.values():
            mailbox.ring()

    def wait(self, mailbox: Mailbox, seen: int, seconds: float) -> list[Command]:
        """Wait for commands, without the lock; [] if there are none in so many seconds.

        Args:
            mailbox: the worker's.
            seen: the number of the last command that it has.
            seconds: how long to wait.
        """
        with self._state.lock:
            mailbox.commands = [one for one in mailbox.commands if one.number > seen]
            mailbox.bell.acquire(blocking=False)
            is_quiet = not (mailbox.commands or mailbox.is_closed or self._state.stopping)
        if is_quiet:
            mailbox.bell.acquire(timeout=seconds)
        with self._state.lock:
            return list(mailbox.commands)

    @property
    def interval(self) -> float:
        """Seconds between two beats of a worker: the more workers, the fewer beats of each."""
        shared = len(self._mailboxes) * BEAT_COST_S / BEAT_SHARE
        return min(max(BEAT_INTERVAL_S, shared), HEARTBEAT_INTERVAL_S)
