"""A job: its rules, its tasks' attempts, its figures."""

from __future__ import annotations

from dataclasses import dataclass, field

from dq._support.frozen import frozen
from dq.core.batching import BatchSizer
from dq.core.records import Batch
from dq.core.waiting import WaitingBatches

WINDOW_BYTES = 16 * 1024 * 1024  # of inputs leased and results unread, per job
# Shares of a slot that a batch may take from the window. Many slots that wait for the master look
# like a slow link: with a thousand, and no bound here, the heap of the master grows to 140 MiB for
# 65, where no-op tasks are 5 % fewer. With 4 in place of 12 they are 15 % fewer.
SHARES = 12


@frozen
class Rules:
    """What applies to the tasks of one job.

    Args:
        retries: further attempts after an exception or time-out.
        retry_delay: seconds before each of them.
        timeout: seconds that a task may run; None for ever.
        max_deaths: how many worker processes may die in a task.
        max_failures: failed tasks after which the job stops; None never.
        batch: tasks in a batch; None to adapt.
        window: bytes of inputs leased and results unread beyond which nothing more is leased.
    """

    retries: int = 0
    retry_delay: float = 0.0
    timeout: float | None = None
    max_deaths: int = 3
    max_failures: int | None = None
    batch: int | None = None
    window: int = WINDOW_BYTES


@dataclass(slots=True)
class Counts:
    """Figures of one job, for people."""

    done: int = 0
    failed: int = 0
    dropped: int = 0
    deaths: int = 0


@dataclass(slots=True)
class Job:
    """One function over one stream of inputs."""

    id: str
    rules: Rules
    sizer: BatchSizer
    next: int = 0  # index of the next task to be batched
    unbatched: int = 0  # inputs that the source has ready
    ended: bool = False  # whether the source has no more to come
    outstanding: int = 0  # tasks batched and without outcome
    waiting: WaitingBatches = field(default_factory=WaitingBatches)
    fails: dict[int, int] = field(default_factory=dict)  # of tasks, by their index
    deaths: dict[int, int] = field(default_factory=dict)
    # Deaths of which a task is one of several suspects: its own, if it turns out to be deadly.
    suspected: dict[int, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)  # by which group, and why
    leases: int = 0
    unread: int = 0  # records not consumed
    held_bytes: int = 0  # of what is leased, and of what is unread
    stopped: str | None = None  # why
    counts: Counts = field(default_factory=Counts)

    @property
    def finished(self) -> bool:
        """Whether nothing more can happen."""
        if self.stopped is not None:
            return self.leases == 0
        return self.ended and self.unbatched == 0 and self.outstanding == 0

    @property
    def remaining(self) -> int | None:
        """Inputs not batched, where that is known."""
        return self.unbatched if self.ended else None

    @property
    def has_more(self) -> bool:
        """Whether there is something to lease, now or once a delay is over."""
        return bool(self.unbatched or self.waiting)

    def attempt(self, index: int) -> int:
        """Which attempt at a task the next one is, from 1."""
        return 1 + self.fails.get(index, 0) + self.deaths.get(index, 0)

    def attempts(self, batch: Batch) -> int:
        """The most that any task of a batch has had."""
        if not self.fails and not self.deaths:
            return 1
        return max(self.attempt(index) for index in range(batch.start, batch.stop))

    def charge_death(self, index: int) -> int:
        """Charge a task with the death of its process; with how many it is charged now."""
        self.counts.deaths += 1
        self.deaths[index] = self.deaths.get(index, 0) + 1 + self.suspected.pop(index, 0)
        return self.deaths[index]

    def suspect(self, index: int) -> None:
        """A process died in this task or another one: try it by itself."""
        self.suspected[index] = self.suspected.get(index, 0) + 1
        self.waiting.isolate(index)

    def take(self, count: int) -> tuple[int, int]:
        """Set the next inputs apart, `count` or as many as there are; the first one's index, and
        how many."""
        count = min(count, self.unbatched)
        start = self.next
        self.next += count
        self.unbatched -= count
        self.outstanding += count
        return start, count

    def stop(self, reason: str) -> None:
        """Give out no more of it."""
        if self.stopped is None:
            self.stopped = reason
            self.waiting.clear()

    def has_room(self, slots: int) -> bool:
        """Whether the window lets a fresh batch out: always two for each slot, and beyond that as
        long as inputs leased and results unread stay under the window."""
        if self.held_bytes < self.rules.window:
            return True
        return self.leases + self.unread < 2 * max(slots, 1)

    def room(self, slots: int) -> float:
        """Bytes that the next batch may have: what the window has left, so that it holds however
        many slots on slow links ask for large ones; or a slot's share of it."""
        share = self.rules.window / max(slots, 1)
        return min(max(self.rules.window - self.held_bytes, share), SHARES * share)
