"""Who works for a master, and what people should know of that: a pure state machine, as the board.

A worker here is one `dq worker`, with all of its processes, or one connection of a plain client
that gets tasks. Comings and goings are told one by one as long as they are few: a thousand workers
that are started together are a handful of lines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dq._support.frozen import frozen

NOBODY = 5.0  # seconds without a worker, after which that is said
SILENT = 30.0  # seconds without a word of one, or with one of its processes stopped
BEAT = 10.0  # seconds between two words of a worker that has nothing else to say
FEW = 5  # comings and goings that are told one by one within a pause; more are told together
PAUSE = 1.0  # seconds; twice as many each time that there were more
LONGEST_PAUSE = 16.0
LONGEST_NAME = 100  # characters of a name that are shown: who has the key may send any
LOOK = 1.0  # seconds between two looks at who is silent


@frozen
class Note:
    """A line for people; a `warning` also for those who want no others."""

    line: str
    warning: bool = False


@dataclass(slots=True)
class Worker:
    """One that is connected.

    Args:
        name: ``host:pid``, or a plain client's host.
        slots: how many tasks it works on at a time.
        security: how its connection is encrypted.
        group: what its processes' connections have in common; "" for a plain client.
        local: whether the master has started it.
        has_task: whether it knows what to do with what plain clients put.
    """

    name: str
    slots: int
    security: str
    group: str = ""
    local: bool = False
    has_task: bool = True
    heard: float = 0.0
    silent: bool = False
    stopped: dict[str, float] = field(default_factory=dict)  # processes, and since when
    said: set[str] = field(default_factory=set)  # of them, what has been told

    def __str__(self) -> str:
        name = self.name[:LONGEST_NAME]
        return f"worker {name}" if self.group else f"plain worker on {name}"


class Roster:
    """Who is connected.

    Args:
        now: seconds of any steady clock; so is every other `now`.

    >>> roster = Roster(now=0.0)
    >>> roster.join(1, Worker("here:12", 2, "not encrypted", "group"), now=1.0)
    >>> roster.notes(1.0, holdings=lambda group, process: "")
    [Note(line='worker here:12 joined: 2 slots, not encrypted', warning=False)]
    """

    def __init__(self, now: float) -> None:
        self.workers: dict[int, Worker] = {}  # by the number of their connection
        self._moves: list[str] = []  # in words, not yet told
        self._joined: list[Worker] = []
        self._left = 0
        self._back: list[str] = []  # who had been silent, not yet told
        self._told = 0  # lines since the pause began, which ends at `_next_at`
        self._pause = PAUSE
        self._next_at = now
        self._look_at = now
        self._empty_since: float | None = now
        self._has_been = False  # whether there has been one

    def join(self, id: int, worker: Worker, now: float) -> None:
        """One has come."""
        worker.heard = now
        self.workers[id] = worker
        self._empty_since = None
        if not worker.local:
            self._has_been = True
            self._joined.append(worker)
            self._moves.append(f"{worker} joined: {_slots(worker.slots)}, {worker.security}")

    def leave(self, id: int, unfinished: int, now: float) -> None:
        """One has gone, with so many tasks that others get."""
        worker = self.workers.pop(id, None)
        if worker is None:
            return
        if not self.workers:
            self._empty_since = now
        if worker.local:
            return
        self._left += 1
        tasks = f" with {tasks_of(unfinished)} unfinished, for others to do" if unfinished else ""
        rest = len(self.workers)
        remain = f"{rest} {'remains' if rest == 1 else 'remain'}" if rest else "it was the last one"
        self._moves.append(f"{worker} left{tasks}; {remain}")

    def hear(self, id: int, stopped: list[str], now: float) -> None:
        """One has sent word, and which of its processes are stopped."""
        worker = self.workers.get(id)
        if worker is None:
            return
        worker.heard = now
        worker.stopped = {name: worker.stopped.get(name, now) for name in stopped}
        worker.said &= worker.stopped.keys()
        if worker.silent:
            worker.silent = False
            self._back.append(f"{worker} is heard of again")

    def notes(self, now: float, holdings: Callable[[str, str], str]) -> list[Note]:
        """What is to be told now.

        Args:
            holdings: the tasks, in words, of a group's process, or ("") of all of them.
        """
        notes = [*self._told_moves(now), *_few([Note(line, True) for line in self._back])]
        self._back.clear()
        if now >= self._look_at:
            self._look_at = now + LOOK
            workers = self.workers.values()
            notes += _few([note for one in workers for note in _silence(one, now, holdings)])
        return notes

    def nobody(self, now: float) -> str | None:
        """Say, once, that nobody has been there for a while."""
        if self._empty_since is None or now - self._empty_since < NOBODY:
            return None
        self._empty_since = None
        return "no worker is left" if self._has_been else "no worker has come yet"

    def _told_moves(self, now: float) -> list[Note]:
        if now >= self._next_at:
            self._told = 0
        count = len(self._moves)
        if not count or (self._told and self._told + count > FEW):
            return []  # or they wait for the rest of the pause, and others with them
        many = count > FEW
        lines = [self._summary()] if many else self._moves
        if not self._told:
            self._pause = min(2 * self._pause, LONGEST_PAUSE) if many else PAUSE
            self._next_at = now + self._pause
        self._told += FEW if many else count
        self._moves, self._joined, self._left = [], [], 0
        return [Note(line) for line in lines]

    def _summary(self) -> str:
        parts = []
        if self._joined:
            slots = sum(worker.slots for worker in self._joined)
            parts.append(f"{_workers(len(self._joined))} joined ({_slots(slots)})")
        if self._left:
            parts.append(f"{self._left if parts else _workers(self._left)} left")
        slots = sum(worker.slots for worker in self.workers.values())
        here = f"{len(self.workers)} with {_slots(slots)}" if self.workers else "none"
        return (
            f"{' and '.join(parts)}; now there {'is' if len(self.workers) == 1 else 'are'} {here}"
        )


def _few(notes: list[Note]) -> list[Note]:
    """The first ones, and how many more there are: when a switch fails, say."""
    more = len(notes) - FEW
    return [*notes[:FEW], Note(f"and {more} more like that", True)] if more > 0 else notes


def _silence(worker: Worker, now: float, holdings: Callable[[str, str], str]) -> list[Note]:
    """What has not been told of a worker that sends no word, or of its stopped processes."""
    notes = []
    if worker.group and not worker.silent and now - worker.heard >= SILENT:
        worker.silent = True
        held = holdings(worker.group, "")
        keeps = f"; it keeps {held}" if held else " and holds no tasks"
        notes.append(Note(f"{worker} has not been heard of for {SILENT:g} s{keeps}", True))
    for name, since in worker.stopped.items():
        if name not in worker.said and now - since >= SILENT - BEAT:
            worker.said.add(name)
            held = holdings(worker.group, name)
            keeps = f"; it keeps {held}" if held else " and holds no tasks"
            text = f"process {name[:LONGEST_NAME]} of {worker} is stopped (SIGSTOP){keeps}"
            notes.append(Note(text, True))
    return notes


def ranges(numbers: list[int], most: int = 3) -> str:
    """Numbers in words, the first few runs of them.

    >>> ranges([1, 2, 3, 7, 9, 10]), ranges([1, 3, 5, 7, 9])
    ('1 to 3, 7, 9, 10', '1, 3, 5 and more')
    """
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    shown = [
        f"{a}" if a == b else f"{a}{', ' if b == a + 1 else ' to '}{b}" for a, b in runs[:most]
    ]
    return ", ".join(shown) + (" and more" if len(runs) > most else "")


def tasks_of(count: int) -> str:
    """So many tasks, in words."""
    return f"{count} task{'' if count == 1 else 's'}"


def _slots(count: int) -> str:
    return f"{count} slot{'' if count == 1 else 's'}"


def _workers(count: int) -> str:
    return f"{count} worker{'' if count == 1 else 's'}"
