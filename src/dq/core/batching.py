"""How many tasks go out together: a small pure controller, fed with measurements."""

from __future__ import annotations

import math

WORK = 0.075  # seconds of work that a batch aims at
EXCHANGES = 20  # a batch is worth at least this many times what handing it over costs
LONGEST = 5.0  # seconds of work beyond which not even a slow link makes a batch grow
ALONE = 0.1  # seconds; a task that takes longer goes out by itself
BYTES = 256 * 1024  # encoded inputs or results of one batch, where an exchange takes up to ...
NEAR = 0.001  # ... so many seconds; a batch for a slower link may be as many times as large, up to
FARTHEST = 32
COST = 0.0001  # seconds that a batch costs the master, which has one for all slots
FEW = 64  # batches, for which no master is too slow
GROWTH = 8  # how much larger than the largest one seen the next may be
FAR = 0.005  # seconds of an exchange from which on each that can be saved is
LEAP = 512  # what GROWTH may be there: the first task can be far shorter than all others
MEMORY = 0.8  # weight of what was known before against what was just seen


class BatchSizer:
    """Sizes of one job's batches, from the measured time and bytes of its tasks.

    Guided self-scheduling towards the end (Polychronopoulos and Kuck, 1987): what remains is
    dealt out in ever smaller shares, so that the last workers finish together.

    Args:
        fixed: tasks in each batch; None to adapt.

    >>> sizer = BatchSizer()
    >>> sizer.size(remaining=None, slots=2)
    1
    >>> sizer.observe(count=1, busy=0.001, elapsed=0.0015)
    >>> sizer.size(remaining=None, slots=2)
    8
    >>> sizer.size(remaining=12, slots=2)
    3
    """

    def __init__(self, fixed: int | None = None) -> None:
        self._fixed = fixed
        self._largest = 0
        self._seconds = _Mean()
        self._exchange = _Mean()
        self._nearest = math.inf  # seconds of the shortest exchange
        self._inputs = _Mean()
        self._results = _Mean()

    @property
    def seconds(self) -> float:
        """Seconds that a task takes, on average of late."""
        return self._seconds.value

    @property
    def nbytes(self) -> float:
        """Bytes of a task's input or result, whichever is larger, on average of late."""
        return max(self._inputs.value, self._results.value)

    @property
    def work(self) -> float:
        """Seconds of work that the next batch aims at."""
        return min(max(WORK, EXCHANGES * self._exchange.value), LONGEST)

    @property
    def limit(self) -> float:
        """Bytes that the next batch may have. No-op tasks on a link with 10 ms of delay need 5 MiB
        under way to keep a worker busy."""
        return BYTES * min(max(self._exchange.value / NEAR, 1), FARTHEST)

    def sent(self, count: int, nbytes: int) -> None:
        """Take in that `count` inputs were `nbytes` long together."""
        self._inputs.add(count, nbytes)

    def observe(self, count: int, busy: float, elapsed: float, nbytes: int = 0) -> None:
        """Take in that `count` tasks kept a worker busy for `busy` of the `elapsed` seconds
        between handing them out and having their outcomes, which were `nbytes` long."""
        self.part(count, busy, nbytes)
        exchange = max(elapsed - busy, 0.0)
        self._exchange.add(1, exchange)
        self._nearest = min(self._nearest, exchange)

    def part(self, count: int, busy: float, nbytes: int = 0) -> None:
        """Take in the same of the first of a batch's tasks, whose rest is still running."""
        self._seconds.add(count, busy)
        self._results.add(count, nbytes)
        self._largest = max(self._largest, count)

    def size(self, remaining: int | None, slots: int, room: float = math.inf) -> int:
        """Tasks in the next batch, where `remaining` inputs are left (None: nobody knows) for
        `slots` workers, of `room` bytes at the most."""
        if self._fixed is not None:
            return self._fixed
        if not self._largest or self.seconds > ALONE:
            return 1
        seconds = max(self.seconds, 1e-9)
        grown = GROWTH * self._largest
        if self._is_far:  # seven steps of 20 ms are a third of a short run
            grown = max(grown, min(self._worth, LEAP * self._largest))
        limit = min(self.limit, room)
        size = min(grown, int(self.work / seconds), int(limit / max(self.nbytes, 1)))
        if remaining is not None:
            size = min(size, self._share(remaining, max(slots, 1)))
        return max(size, 1)

    @property
    def _is_far(self) -> bool:
        # By the shortest: where many slots wait for a master nearby, all others are long.
        return FAR < self._nearest < math.inf

    @property
    def _worth(self) -> int:
        """How many tasks run as long as handing them over takes."""
        return int(self._exchange.value / max(self.seconds, 1e-9))

    def _share(self, remaining: int, slots: int) -> int:
        """What the end of the inputs lets a batch have: half of a slot's share of what remains;
        more, up to all of that share, where running it takes less time than handing it over, and up
        to two of them over a slow link; and more where there are more slots than one master can
        make use of: n batches take it n x COST, and the slots work / n, which together is least at
        n = sqrt(work / COST). Less than runs while the master hands out a batch is no gain either,
        where as many have been seen to be so short."""
        seconds = max(self.seconds, 1e-9)
        own = -(-remaining // (max(slots // 2, 1) if self._is_far else slots))
        least = int(math.sqrt(remaining * COST / seconds))
        return max(
            -(-remaining // (2 * slots)),
            min(own, self._worth),
            min(-(-remaining // FEW), least),
            min(remaining, int(COST / seconds), self._largest),
        )


class _Mean:
    """A mean that forgets."""

    __slots__ = ("_count", "_sum")

    def __init__(self) -> None:
        self._count = 0.0
        self._sum = 0.0

    def add(self, count: int, amount: float) -> None:
        self._count = self._count * MEMORY + count
        self._sum = self._sum * MEMORY + amount

    @property
    def value(self) -> float:
        return self._sum / self._count if self._count else 0.0
