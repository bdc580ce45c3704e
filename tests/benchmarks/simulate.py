"""A simulator of dq's batches: its own board and controller, with a clock that costs nothing.

    cd tests && python -m benchmarks.simulate

What is simulated is what is around them: slots that run tasks, a link with a delay, a master that
takes one exchange at a time, and a monitor that hands back what waits behind a long task.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
import random
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks import stats
from benchmarks.report import Goal, Table
from dq.core.board import Board
from dq.core.jobs import Job, Rules
from dq.core.leases import Lease, LeaseHolder, Report
from dq.core.records import Batch, Done
from dq.worker.partial_reports import PARTIAL_REPORT_FACTOR, PARTIAL_REPORT_S, STUCK_CHECKS
from dq.worker.service import CHECK_INTERVAL_S

JOB = "simulated"
# Seconds that a task has to last, to be seen so often as the same.
WATCHED = CHECK_INTERVAL_S * STUCK_CHECKS
SHORT = 0.1  # seconds below which a result is one that should not be held back


@dataclass(frozen=True)
class World:
    """Where the tasks run.

    Args:
        slots: how many tasks at a time.
        delay: seconds to the master and back again.
        master: seconds that it takes for an exchange, during which others wait.
        overhead: seconds that a worker takes for a task besides the task.
        nbytes: encoded bytes of an input, and of a result.
        streamed: whether the inputs' end is known only once it is reached.
        batch: as ``--batch``; None to adapt.
    """

    slots: int = 2
    delay: float = 0.0003
    master: float = 0.0001
    overhead: float = 0.3e-6
    nbytes: int = 5
    streamed: bool = False
    batch: int | None = None


@dataclass
class Found:
    """What a simulation came to.

    Attributes:
        makespan: seconds until the last result is with the master.
        bound: seconds that no schedule at all can be shorter than.
        one_by_one: seconds that handing out single tasks would take, if that cost nothing.
        held: the longest that a short task's result was kept before it was sent, in seconds.
        waited: the longest that tasks stood behind a long one before they were handed back.
        exchanges: how many there were.
        batches: how many tasks each lease had, in order.
    """

    makespan: float = 0.0
    bound: float = 0.0
    one_by_one: float = 0.0
    held: float = 0.0
    waited: float = 0.0
    exchanges: int = 0
    batches: list[int] = field(default_factory=list)

    @property
    def stretch(self) -> float:
        """The makespan as a multiple of the bound."""
        return self.makespan / self.bound

    @property
    def excess(self) -> float:
        """The makespan as a multiple of what handing out single tasks for nothing gives."""
        return self.makespan / self.one_by_one


def simulate(durations: Sequence[float], world: World, seed: int = 1) -> Found:
    """Run tasks of these durations, in this order."""
    found = _Simulation(durations, world, random.Random(seed)).run()
    found.bound = stats.bound(durations, world.slots)
    found.one_by_one = one_by_one(durations, world.slots)
    return found


def one_by_one(durations: Sequence[float], slots: int) -> float:
    """When the last of so many slots is done, each of which takes the next task at once.

    >>> one_by_one([1, 1, 2], 2)
    3.0
    """
    free = [0.0] * slots
    for duration in durations:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


@dataclass(eq=False)
class _Slot:
    holder: LeaseHolder
    phase: float  # when its monitor looks first
    lease: Lease | None = None
    first: int = 0  # the first of its tasks that is not reported
    stop: int = 0  # after the last that is not handed back
    base: float = 0.0  # when a task 0 would have started for the present one to start when it does
    since: float = 0.0  # when what it will report next has started
    late: float = PARTIAL_REPORT_S  # seconds after which it reports what is done


class _Simulation:
    def __init__(self, durations: Sequence[float], world: World, rng: random.Random) -> None:
        self._world = world
        self._ends = [0.0, *itertools.accumulate(d + world.overhead for d in durations)]
        self._long = [n for n, d in enumerate(durations) if d >= WATCHED]
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = itertools.count()
        self._free = 0.0  # when the master has done what it has begun
        self._idle: deque[_Slot] = deque()  # waiting for a batch, in the master
        self._board = Board(itertools.count())
        self._job: Job = self._board.open_job(JOB, Rules(batch=world.batch))
        self._unread = len(durations)
        self._read()
        self._found = Found()
        self._recorded = 0
        for number in range(world.slots):
            slot = _Slot(LeaseHolder(number, name=str(number)), rng.random() * CHECK_INTERVAL_S)
            self._board.join(slot.holder)
            self._at(world.delay / 2, lambda now, slot=slot: self._ask(now, slot, None))

    def run(self) -> Found:
        while self._events:
            now, _, event = heapq.heappop(self._events)
            event(now)
        assert self._recorded == len(self._ends) - 1, "tasks were lost"
        return self._found

    def _at(self, when: float, event: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), event))

    # The master

    def _read(self) -> None:
        """Have as many inputs at hand as `dq.dispatch.feeding` would."""
        count = self._unread
        if self._world.streamed:
            ahead = 2 * self._job.sizer.size(None, self._board.slots) * max(self._board.slots, 1)
            count = min(max(max(64, ahead) - self._job.unbatched, 0), count)
        self._board.supply(JOB, count)
        self._unread -= count
        if not self._unread:
            self._board.end(JOB)

    def _serve(self, now: float) -> float:
        """Wait for one's turn; returns when the master has done an exchange that comes now."""
        self._free = max(self._free, now) + self._world.master
        self._found.exchanges += 1
        return self._free

    def _ask(self, now: float, slot: _Slot, report: Report | None) -> None:
        now = self._serve(now)
        if report is not None:
            self._take_in(now, slot, report)
        if not self._grant(now, slot):
            self._idle.append(slot)

    def _take_in(self, now: float, slot: _Slot, report: Report) -> None:
        for record in self._board.report(slot.holder, report, now):
            self._recorded += record.batch.count
            self._board.consumed(JOB, 1, record.nbytes)
            self._found.makespan = now
        while report.handed_back and self._idle and self._grant(self._serve(now), self._idle[0]):
            self._idle.popleft()

    def _grant(self, now: float, slot: _Slot) -> bool:
        wanted = self._board.wanted(slot.holder, now)
        if wanted is None:
            return False
        if isinstance(wanted, str):
            start, count = self._board.take_batch(JOB)
            wanted = Batch(JOB, start, count, bytes(count * self._world.nbytes))
            self._job.sizer.sent(count, len(wanted.blob))
            self._read()
        lease = self._board.grant(slot.holder, wanted, now)
        assert lease is not None
        self._found.batches.append(wanted.count)
        self._at(now + self._world.delay / 2, lambda now: self._start(now, slot, lease))
        return True

    # A slot

    def _start(self, now: float, slot: _Slot, lease: Lease) -> None:
        slot.lease, slot.first, slot.stop = lease, lease.batch.start, lease.batch.stop
        slot.base, slot.since = now - self._ends[slot.first], now
        self._go_on(now, slot)

    def _go_on(self, now: float, slot: _Slot) -> None:
        """Plan what comes first: a look that finds a long task, or a late batch, or the end."""
        end = slot.base + self._ends[slot.stop]
        late = self._next_look(slot, max(slot.since + slot.late, now + CHECK_INTERVAL_S / 2))
        long, task = self._find_long(slot)
        if long <= late and long < end:
            self._at(long, lambda now: self._hand_back(now, slot, task))
        elif late < end:
            self._at(late, lambda now: self._report_so_far(now, slot))
        else:
            self._at(end, lambda now: self._finish(now, slot))

    def _next_look(self, slot: _Slot, earliest: float) -> float:
        return slot.phase + math.ceil((earliest - slot.phase) / CHECK_INTERVAL_S) * CHECK_INTERVAL_S

    def _find_long(self, slot: _Slot) -> tuple[float, int]:
        """When the monitor finds the first task of the batch that lasts too long, and which."""
        for n in range(bisect.bisect_left(self._long, slot.first), len(self._long)):
            task = self._long[n]
            if task >= slot.stop or slot.stop - slot.first == 1:
                break
            when = (
                self._next_look(slot, slot.base + self._ends[task])
                + STUCK_CHECKS * CHECK_INTERVAL_S
            )
            if when < slot.base + self._ends[task + 1]:
                return when, task
        return math.inf, 0

    def _hand_back(self, now: float, slot: _Slot, task: int) -> None:
        """Task `task` runs on; what came before is reported, what comes after handed back."""
        tail = slot.stop - task - 1
        started = slot.base + self._ends[task]
        slot.stop = task + 1
        self._send(now, slot, task, tail)
        arrives = now + self._world.delay / 2
        if tail:
            self._found.waited = max(self._found.waited, arrives - started)
        self._at(slot.base + self._ends[slot.stop], lambda now: self._finish(now, slot))

    def _report_so_far(self, now: float, slot: _Slot) -> None:
        """Report what is done of a batch that goes on."""
        done = bisect.bisect_right(self._ends, now - slot.base, slot.first, slot.stop) - 1
        if done > slot.first:
            self._send(now, slot, done, 0)
        self._go_on(now, slot)

    def _send(self, now: float, slot: _Slot, stop: int, handed_back: int) -> None:
        report = self._report(now, slot, stop, handed_back)
        if report.outcomes:
            slot.first, slot.since = stop, now

        def arrive(arrived: float) -> None:
            done = self._serve(arrived)
            self._take_in(done, slot, report)
            took = done + self._world.delay / 2 - now
            slot.late = max(PARTIAL_REPORT_S, PARTIAL_REPORT_FACTOR * took)

        self._at(now + self._world.delay / 2, arrive)

    def _finish(self, now: float, slot: _Slot) -> None:
        report = self._report(now, slot, slot.stop, 0)
        self._at(now + self._world.delay / 2, lambda now: self._ask(now, slot, report))

    def _report(self, now: float, slot: _Slot, stop: int, handed_back: int) -> Report:
        """Everything before task `stop` that is not reported yet."""
        count = stop - slot.first
        if count and self._ends[slot.first + 1] - self._ends[slot.first] < SHORT:
            kept = now - slot.base - self._ends[slot.first + 1] + self._world.delay / 2
            self._found.held = max(self._found.held, kept)
        done = Done(count, bytes(count * self._world.nbytes))
        assert slot.lease is not None
        outcomes = (done,) if count else ()
        return Report(slot.lease.id, slot.first, outcomes, handed_back, now - slot.since)


# Durations


def constant(count: int, seconds: float, seed: int = 1) -> list[float]:
    return [seconds] * count


def uniform(count: int, mean: float, seed: int = 1) -> list[float]:
    """From nothing to twice the mean."""
    rng = random.Random(seed)
    return [rng.random() * 2 * mean for _ in range(count)]


def pareto(count: int, mean: float, seed: int = 1) -> list[float]:
    """A heavy tail (alpha 1.5), of which one takes 100 times the mean and none takes longer.

    >>> durations = pareto(10_000, 0.01)
    >>> 0.009 < sum(durations) / 10_000 < 0.011, max(durations)
    (True, 1.0)
    """
    rng = random.Random(seed)
    rest = [min(rng.paretovariate(1.5), 250.0) for _ in range(count - 1)]
    scale = mean * count / (sum(rest) + 100 * sum(rest) / count)
    durations = [min(value * scale, 100 * mean) for value in rest]
    durations.insert(rng.randrange(count), 100 * mean)
    return durations


def mixed(count: int = 100_000, few: int = 20, seconds: float = 2.0, seed: int = 1) -> list[float]:
    """Nothing to do, but for a few long tasks hidden anywhere."""
    return stats.mixed(count, few, seconds, seed=seed)


CASES: dict[str, Callable[[int, int], list[float]]] = {  # of so many slots, and a seed
    "equal, 1 ms": lambda slots, seed: constant(5_000 * slots, 0.001),
    "equal, 10 ms": lambda slots, seed: constant(1_000 * slots, 0.010),
    "uniform, 10 ms": lambda slots, seed: uniform(1_000 * slots, 0.010, seed),
    "Pareto, 1 ms": lambda slots, seed: pareto(2_000 * slots, 0.001, seed),
    "Pareto, 10 ms": lambda slots, seed: pareto(2_000 * slots, 0.010, seed),
    "mixed": lambda slots, seed: mixed(100_000, max(20, 10 * slots), 2.0, seed),
}
SLOTS = (2, 16, 128)
DELAYS = (0.0003, 0.010, 0.100)


def measure(slots: Sequence[int] = SLOTS, seeds: int = 3) -> Table:
    """Every case at every number of slots and delay; the worst of several seeds."""
    rows, samples, worst = [], {}, {"stretch": 0.0, "held": 0.0}
    for name, make in CASES.items():
        for number, delay in itertools.product(slots, DELAYS):
            world = World(slots=number, delay=delay)
            found = [simulate(make(number, seed), world, seed) for seed in range(seeds)]
            figures = {
                what: [getattr(one, what) for one in found]
                for what in ("stretch", "excess", "held", "waited")
            }
            who = f"{name}, {number} slots, {stats.show_seconds(delay)} away"
            samples[who] = figures
            rows.append([who, *_cells(figures)])
            if delay == DELAYS[0]:
                for what in worst:
                    worst[what] = max(worst[what], *figures[what])
    return Table(
        f"Simulated: the controller of batch sizes, worst of {seeds} seeds",
        ["", "makespan / bound", "/ one by one", "held back", "behind a long one"],
        rows,
        samples,
        [
            "Bound: the larger of total / slots and the longest task.",
            "One by one: single tasks handed out in order, if that cost nothing.",
        ],
        [
            Goal("nearby: makespan / bound", worst["stretch"], 1.1, at_least=False),
            Goal("nearby: seconds held back", worst["held"], 0.5, at_least=False),
        ],
    )


def _cells(figures: dict[str, list[float]]) -> list[str]:
    worst = {what: max(values) for what, values in figures.items()}
    return [
        f"{worst['stretch']:.3f}",
        f"{worst['excess']:.3f}",
        stats.show_seconds(worst["held"]),
        stats.show_seconds(worst["waited"]),
    ]


if __name__ == "__main__":
    print(measure())
    sys.exit(0)
