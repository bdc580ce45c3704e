"""Which workers are connected, and the notices about them: a pure state machine."""

from __future__ import annotations

from collections.abc import Callable

from dq.dispatch.connected_worker import (
    LONGEST_SHOWN_NAME,
    MOST_SINGLE_NOTES,
    ConnectedWorker,
    Note,
)
from dq.dispatch.movements import Movements
from dq.transport.limits import HEARTBEAT_INTERVAL_S

NO_WORKER_NOTICE_S = 5.0  # without a worker, after which there is a notice
SILENCE_NOTICE_S = 30.0  # without a heartbeat, or with a stopped process, after which there is one
CHECK_INTERVAL_S = 1.0  # between two checks for missing heartbeats


class Roster:
    """The connected workers.

    Args:
        now: seconds of any steady clock; so is every other `now`.

    >>> roster = Roster(now=0.0)
    >>> worker = ConnectedWorker("here:12", slots=2, security="not encrypted", group="group")
    >>> roster.join(1, worker, now=1.0)
    >>> roster.notes(1.0, tasks_held=lambda group, process: "")
    [Note(line='worker here:12 joined: 2 slots, not encrypted', warning=False)]
    """

    def __init__(self, now: float) -> None:
        self.workers: dict[int, ConnectedWorker] = {}  # by the id of their connection
        self._movements = Movements(now)
        self._back: list[Note] = []  # about workers whose heartbeats have resumed
        self._check_at = now
        self._empty_since: float | None = now
        self._has_had_worker = False

    def join(self, id: int, worker: ConnectedWorker, now: float) -> None:
        """Note that a worker has joined."""
        worker.joined_at = worker.heartbeat_at = now
        self.workers[id] = worker
        self._empty_since = None
        if not worker.local:
            self._has_had_worker = True
            self._movements.joined(worker)

    def leave(self, id: int, unfinished: int, now: float) -> None:
        """Note that a worker has left, and how many of its tasks were requeued."""
        worker = self.workers.pop(id, None)
        if worker is None:
            return
        if not self.workers:
            self._empty_since = now
        if not worker.local:
            self._movements.left(worker, unfinished, remaining=len(self.workers))

    def heartbeat(self, id: int, stopped: list[str], now: float) -> None:
        """Note a worker's heartbeat, and which of its processes are stopped."""
        worker = self.workers.get(id)
        if worker is None:
            return
        worker.heartbeat_at = now
        worker.stopped = {name: worker.stopped.get(name, now) for name in stopped}
        worker.noted &= worker.stopped.keys()
        if worker.is_silent:
            worker.is_silent = False
            self._back.append(Note(f"{worker} is heard of again", warning=True))

    def notes(self, now: float, tasks_held: Callable[[str, str], str]) -> list[Note]:
        """The notes to show now.

        Args:
            tasks_held: describes the tasks of one process of a group, or of all if its name is "".
        """
        notes = [*self._movements.notes(now, self.workers.values()), *_few(self._back)]
        self._back.clear()
        if now >= self._check_at:
            self._check_at = now + CHECK_INTERVAL_S
            workers = self.workers.values()
            notes += _few([note for one in workers for note in _warnings(one, now, tasks_held)])
        return notes

    def no_worker_notice(self, now: float) -> str | None:
        """A notice, given once, that there has been no worker for a while."""
        if self._empty_since is None or now - self._empty_since < NO_WORKER_NOTICE_S:
            return None
        self._empty_since = None
        return "no worker is left" if self._has_had_worker else "no worker has come yet"


def _few(notes: list[Note]) -> list[Note]:
    """The first few notes, and how many more there are, for example when a switch fails."""
    more = len(notes) - MOST_SINGLE_NOTES
    if more <= 0:
        return notes
    return [*notes[:MOST_SINGLE_NOTES], Note(f"and {more} more like that", warning=True)]


def _warnings(
    worker: ConnectedWorker, now: float, tasks_held: Callable[[str, str], str]
) -> list[Note]:
    """New notices about a worker without heartbeats, or about its stopped processes."""
    lines = []
    if worker.group and not worker.is_silent and now - worker.heartbeat_at >= SILENCE_NOTICE_S:
        worker.is_silent = True
        keeps = _keeps(tasks_held(worker.group, ""))
        lines.append(f"{worker} has not been heard of for {SILENCE_NOTICE_S:g} s{keeps}")
    for name, since in worker.stopped.items():
        if name not in worker.noted and now - since >= SILENCE_NOTICE_S - HEARTBEAT_INTERVAL_S:
            worker.noted.add(name)
            keeps = _keeps(tasks_held(worker.group, name))
            process = f"process {name[:LONGEST_SHOWN_NAME]} of {worker}"
            lines.append(f"{process} is stopped (SIGSTOP){keeps}")
    return [Note(line, warning=True) for line in lines]


def _keeps(tasks: str) -> str:
    return f"; it keeps {tasks}" if tasks else " and holds no tasks"
