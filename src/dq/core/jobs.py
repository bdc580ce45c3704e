"""A job: its rules, its tasks' attempts, its figures."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from dq._support.frozen import frozen
from dq.core.batching import BatchSizer
from dq.core.durations import Durations
from dq.core.leases import LeaseHolder
from dq.core.rates import TokenBucket
from dq.core.records import Batch
from dq.core.shares import Group, Share
from dq.core.skips import Skips
from dq.core.waiting import WaitingBatches

WINDOW_BYTES = 16 * 1024 * 1024  # of inputs leased and results unread, per job
# How many slots' shares of the window one batch may use. To the batch sizer, many slots that wait
# for the master look like a slow link. With a thousand slots and no limit, the master's heap grew
# to 140 MiB; with this limit it grew to 65 MiB, for 5 % fewer no-op tasks. With 4 they were 15 %
# fewer.
SHARES = 12


@frozen
class Rules:
    """What applies to the tasks of one job.

    Args:
        retries: further attempts after an exception or time-out.
        retry_delay: seconds before each of them.
        timeout: seconds that a task may run; None for no limit.
        max_deaths: deaths of worker processes after which a task fails.
        max_failures: failed tasks after which the job stops; None for no limit.
        batch: tasks in a batch; None to adapt.
        rate: tasks that may be started in a second; None for any number.
        needs: tags that a worker must have.
        speculate: whether a task that runs for unusually long may be run a second time.
        priority: a job of a higher priority goes first.
        window: bytes of inputs leased and results unread beyond which nothing more is leased.
        pushed: whether inputs come one by one, so that those which are there are shared out among
            the slots as if they were the last.
    """

    retries: int = 0
    retry_delay: float = 0.0
    timeout: float | None = None
    max_deaths: int = 3
    max_failures: int | None = None
    batch: int | None = None
    rate: float | None = None
    needs: frozenset[str] = frozenset()
    speculate: bool = False
    priority: int = 0
    window: int = WINDOW_BYTES
    pushed: bool = False


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
    skips: Skips = field(default_factory=Skips)  # indices that its source does not yield
    next: int = 0  # index of the next task to be batched; it is not skipped
    unbatched: int = 0  # inputs that the source has ready
    ended: bool = False  # whether the source has no more to come
    outstanding: int = 0  # tasks that were batched and have no outcome
    waiting: WaitingBatches = field(default_factory=WaitingBatches)
    fails: dict[int, int] = field(default_factory=dict)  # of tasks, by their index
    deaths: dict[int, int] = field(default_factory=dict)
    # Deaths in which several tasks were suspected. They count for a task once it is charged itself.
    suspected: dict[int, int] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)  # group: why it cannot load the function
    load_deaths: dict[str, int] = field(default_factory=dict)  # by group, since it last reported
    share: Share = field(default_factory=Share)
    bucket: TokenBucket | None = None  # of a job with a rate
    durations: Durations | None = None  # of a job that speculates
    # Tasks that were leased a second time because they were slow, and how many of their leases have
    # not ended. A task is removed once it has its outcome.
    copies: dict[int, int] = field(default_factory=dict)
    leases: int = 0
    superseded: int = 0  # leases of copies whose task has its outcome from another
    unread: int = 0  # records that were not consumed
    held_bytes: int = 0  # of leased inputs and unread records
    # Tasks that were cancelled before they were batched, in ascending order. They are recorded, but
    # their inputs are still in the source, and in `unbatched`.
    cancelled: list[int] = field(default_factory=list)
    # Batches that were chosen for a holder and are not leased yet, by the index of the first task.
    chosen: dict[int, Batch] = field(default_factory=dict)
    stopped: str | None = None  # the reason
    ending: bool = False  # whether the tasks that run are to be ended, too
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        self.next = self.skips.after(self.next)
        if self.rules.rate is not None:
            self.bucket = TokenBucket(self.rules.rate)
        if self.rules.speculate:
            self.durations = Durations()

    @property
    def group(self) -> Group:
        """The jobs with which it shares the same workers."""
        return self.rules.priority, self.rules.needs

    @property
    def finished(self) -> bool:
        """Whether no task can get an outcome any more."""
        if self.stopped is not None:
            return self.leases == self.superseded
        return self.ended and self.unbatched == 0 and self.outstanding == 0

    @property
    def remaining(self) -> int | None:
        """How many inputs are not batched, if that is known."""
        return self.unbatched if self.ended or self.rules.pushed else None

    @property
    def has_more(self) -> bool:
        """Whether there is something to lease, now or once a delay is over."""
        waiting = self.waiting  # no call, since this is asked three times for each single task
        return bool(self.unbatched or waiting.batches or waiting.delayed)

    @property
    def is_simple(self) -> bool:
        """Whether any holder may have its tasks at any time, as those of nearly all jobs."""
        return not (self.bucket or self.waiting.delayed or self.rules.needs or self.rejected)

    def is_ready(self, now: float) -> bool:
        """Whether its tasks may be leased now, as far as that is up to the job."""
        if self.stopped is not None:
            return False
        if self.waiting.delayed:
            self.waiting.release(now)
        return self.bucket is None or self.bucket.available(now) > 0

    def suits(self, holder: LeaseHolder) -> bool:
        """Whether a holder may have its tasks."""
        if self.rules.needs and not self.rules.needs <= holder.tags:
            return False
        return holder.group not in self.rejected

    def due(self) -> float | None:
        """When a batch is due that is held back for now, by its delay or by the rate."""
        if self.stopped is not None or not self.has_more:
            return None
        waiting = self.waiting
        held_back = self.bucket.due if self.bucket is not None else None
        if waiting.delayed and not waiting.batches and not self.unbatched:
            return max(waiting.delayed[0][0], held_back or 0.0)
        if held_back is not None:
            return held_back
        return waiting.delayed[0][0] if waiting.delayed else None

    def attempt(self, index: int) -> int:
        """The number of a task's next attempt, from 1."""
        return 1 + self.fails.get(index, 0) + self.deaths.get(index, 0)

    def attempts(self, batch: Batch) -> int:
        """The most that any task of a batch has had."""
        if not self.fails and not self.deaths:
            return 1
        return max(self.attempt(index) for index in range(batch.start, batch.stop))

    def charge_death(self, index: int) -> int:
        """Charge a task with the death of its process. Returns its number of deaths."""
        self.counts.deaths += 1
        self.deaths[index] = self.deaths.get(index, 0) + 1 + self.suspected.pop(index, 0)
        return self.deaths[index]

    def suspect(self, index: int) -> None:
        """Note that a process died in this task or in another, and isolate it."""
        self.suspected[index] = self.suspected.get(index, 0) + 1
        self.waiting.isolate(index)

    def settle(self, batch: Batch) -> None:
        """Note that redelivered tasks have their outcome: no other copy is waited for."""
        self.waiting.settle(batch)
        if self.copies:
            for index in range(batch.start, batch.stop):
                self.superseded += self.copies.pop(index, 0)

    def take(self, count: int) -> tuple[int, int]:
        """Take the next inputs for a batch, at most `count`, and none from after a skipped or a
        cancelled one. Returns the index of the first one, and how many they are."""
        start = self.next
        room = self.skips.room(start)
        count = min(count, self.unbatched if room is None else min(room, self.unbatched))
        if self.cancelled:
            count = min(count, self.cancelled[0] - start)
        if self.bucket is not None:
            count = min(count, self.bucket.tokens)
            self.bucket.take(count)
        self.next = start + count if room is None else self.skips.after(start + count)
        self.unbatched -= count
        self.outstanding += count
        return start, count

    def is_unbatched(self, index: int) -> bool:
        """Whether a task is in the source still, and not cancelled."""
        if not self.next <= index or self.skips.after(index) != index:
            return False
        if index - self.next - self.skips.count(self.next, index) >= self.unbatched:
            return False
        place = bisect_left(self.cancelled, index)
        return place == len(self.cancelled) or self.cancelled[place] != index

    def pass_cancelled(self) -> int:
        """Pass over cancelled tasks that are next. Returns how many inputs are to be dropped from
        the source."""
        count = 0
        while self.cancelled and self.cancelled[0] == self.next:
            del self.cancelled[0]
            self.unbatched -= 1
            self.next = self.skips.after(self.next + 1)
            count += 1
        return count

    def pop_waiting(self, now: float) -> Batch | None:
        """Take the first requeued batch, or as much of it as may be leased now."""
        batch = self.waiting.pop(now)
        if batch is None or self.bucket is None:
            return batch
        stop = min(batch.start + self.bucket.tokens, batch.stop)
        if stop < batch.stop:
            self.waiting.put_back(batch.part(stop, batch.stop))
        self.bucket.take(stop - batch.start)
        return batch.part(batch.start, stop)

    def put_back(self, batch: Batch) -> None:
        """Requeue a batch that was taken and not leased, at the front."""
        self.return_tokens(batch.count)
        self.waiting.put_back(batch)

    def use_tokens(self, count: int) -> None:
        """Count tasks that are leased towards the rate."""
        if self.bucket is not None:
            self.bucket.take(count)

    def return_tokens(self, count: int) -> None:
        """Count tasks that were not started after all no longer towards the rate."""
        if self.bucket is not None:
            self.bucket.put_back(count)

    def stop(self, reason: str) -> None:
        """Lease no more of its tasks."""
        if self.stopped is None:
            self.stopped = reason
            self.waiting.clear()

    def has_room(self, slots: int) -> bool:
        """Whether another batch may be leased. Two for each slot always may; more may as long as
        leased inputs and unread results are below the window."""
        if self.held_bytes < self.rules.window:
            return True
        return self.leases + self.unread < 2 * max(slots, 1)

    def room(self, slots: int) -> float:
        """Bytes that the next batch may have: what is left of the window, so that many slots on
        slow links cannot exceed it; but at least one slot's share, and at most `SHARES` of them."""
        share = self.rules.window / max(slots, 1)
        return min(max(self.rules.window - self.held_bytes, share), SHARES * share)
