"""Notices about workers that have joined and left, in few lines.

Each worker has a line of its own as long as there are few. A thousand workers that start together
are summarised in a handful of lines.
"""

from __future__ import annotations

from collections.abc import Collection

from dq.dispatch.connected_worker import MOST_SINGLE_NOTES, ConnectedWorker, Note
from dq.dispatch.wording import count_of

PAUSE_S = 1.0  # between bursts of at most `MOST_SINGLE_NOTES` lines; doubled each time
LONGEST_PAUSE_S = 16.0


class Movements:
    """Collects notices that have not been shown yet.

    Args:
        now: seconds of any steady clock; so is every other `now`.
    """

    def __init__(self, now: float) -> None:
        self._lines: list[str] = []  # not shown yet
        self._joined: list[ConnectedWorker] = []  # the workers that these lines are about
        self._left = 0
        self._shown = 0  # lines since the pause began
        self._pause = PAUSE_S
        self._pause_ends_at = now

    def joined(self, worker: ConnectedWorker) -> None:
        self._joined.append(worker)
        slots = count_of(worker.slots, "slot")
        self._lines.append(f"{worker} joined: {slots}, {worker.security}")

    def left(self, worker: ConnectedWorker, unfinished: int, remaining: int) -> None:
        """Note that a worker has left.

        Args:
            unfinished: how many of its tasks were requeued.
            remaining: how many other workers there are.
        """
        self._left += 1
        line = f"{worker} left"
        if unfinished:
            line += f" with {count_of(unfinished, 'task')} unfinished, for others to do"
        if not remaining:
            line += "; it was the last one"
        else:
            line += f"; {remaining} {'remains' if remaining == 1 else 'remain'}"
        self._lines.append(line)

    def notes(self, now: float, workers: Collection[ConnectedWorker]) -> list[Note]:
        """What to show now.

        Args:
            workers: those that are connected.
        """
        if now >= self._pause_ends_at:
            self._shown = 0
        count = len(self._lines)
        if not count or (self._shown and self._shown + count > MOST_SINGLE_NOTES):
            return []  # later lines are collected until the pause is over
        many = count > MOST_SINGLE_NOTES
        lines = [self._summary(workers)] if many else self._lines
        if not self._shown:
            self._pause = min(2 * self._pause, LONGEST_PAUSE_S) if many else PAUSE_S
            self._pause_ends_at = now + self._pause
        self._shown += MOST_SINGLE_NOTES if many else count
        self._lines, self._joined, self._left = [], [], 0
        return [Note(line) for line in lines]

    def _summary(self, workers: Collection[ConnectedWorker]) -> str:
        parts = []
        if self._joined:
            joined = count_of(len(self._joined), "worker")
            parts.append(f"{joined} joined ({_slots_of(self._joined)})")
        if self._left:
            parts.append(f"{self._left if parts else count_of(self._left, 'worker')} left")
        are = "is" if len(workers) == 1 else "are"
        here = f"{len(workers)} with {_slots_of(workers)}" if workers else "none"
        return f"{' and '.join(parts)}; now there {are} {here}"


def _slots_of(workers: Collection[ConnectedWorker]) -> str:
    return count_of(sum(worker.slots for worker in workers), "slot")
