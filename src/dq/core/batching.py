"""How many tasks a batch should have: a small pure controller, fed with measurements."""

from __future__ import annotations

import math

# Seconds of work that a batch should have. Between two batches, a process that has slept in its
# tasks is idle for 0.6 ms, since nothing of it or of the master is in the caches. With 0.075 s that
# was 0.9 % of the time.
WORK_S = 0.15
EXCHANGES = 20  # a batch's work takes at least this many times as long as its exchange
LONGEST_WORK_S = 5.0  # seconds of work that a batch has at most, even on a slow link
ALONE_S = 0.1  # seconds; a task that takes longer is sent in a batch of its own
# Encoded inputs or results of one batch whose exchange takes up to `NEAR_S`. For a slower link it
# is as many times larger as the exchange is longer, up to `FARTHEST` times. Of large values it is
# 16, up to 4 MiB, since an exchange takes as long as copying a MiB: arrays of 100 KiB moved at
# half the rate with 256 KiB, and those of 1 MiB at two thirds.
BATCH_BYTES = 256 * 1024
LARGE_VALUES = 16
LARGE_BATCH_BYTES = 4 * 1024 * 1024
NEAR_S = 0.001
FARTHEST = 32
BATCH_COST_S = 0.0001  # seconds of the master's time that each batch takes
FEW_BATCHES = 64  # batches; a master can always keep up with so many
GROWTH = 8  # how much larger than the largest one seen the next may be
FAR_S = 0.005  # seconds of an exchange from which on each that can be saved is
LEAP = 512  # what GROWTH may be there: the first task can be far shorter than all others
MEMORY = 0.8  # weight of the earlier mean against a new measurement


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
        """Seconds that a task takes: the mean of recent tasks."""
        return self._seconds.value

    @property
    def nbytes(self) -> float:
        """Bytes of a task's input or result, whichever is larger: the mean of recent tasks."""
        return max(self._inputs.value, self._results.value)

    @property
    def work(self) -> float:
        """Seconds of work that the next batch should have."""
        return min(max(WORK_S, EXCHANGES * self._exchange.value), LONGEST_WORK_S)

    @property
    def near_limit(self) -> float:
        """Bytes that a batch may have on a fast link."""
        return min(max(BATCH_BYTES, LARGE_VALUES * self.nbytes), LARGE_BATCH_BYTES)

    @property
    def limit(self) -> float:
        """Bytes that the next batch may have. A worker behind a link with 10 ms of delay needs
        5 MiB of no-op tasks in transit to stay busy."""
        far = BATCH_BYTES * min(self._exchange.value / NEAR_S, FARTHEST)
        return max(self.near_limit, far)

    def sent(self, count: int, nbytes: int) -> None:
        """Note that `count` inputs had `nbytes` in all."""
        self._inputs.add(count, nbytes)

    def observe(self, count: int, busy: float, elapsed: float, nbytes: int = 0) -> None:
        """Note that a batch of `count` tasks has been reported.

        Args:
            count: how many tasks.
            busy: seconds that the worker spent in them.
            elapsed: seconds from the lease to the report.
            nbytes: bytes of their outcomes.
        """
        self.part(count, busy, nbytes)
        exchange = max(elapsed - busy, 0.0)
        self._exchange.add(1, exchange)
        self._nearest = min(self._nearest, exchange)

    def part(self, count: int, busy: float, nbytes: int = 0) -> None:
        """Note that the first `count` tasks of a batch were reported while the rest still runs."""
        self._seconds.add(count, busy)
        self._results.add(count, nbytes)
        self._largest = max(self._largest, count)

    def size(
        self,
        remaining: int | None,
        slots: int,
        room: float = math.inf,
        longest: float = LONGEST_WORK_S,
    ) -> int:
        """How many tasks the next batch should have.

        Args:
            remaining: how many inputs are left; None if that is not known.
            slots: how many task slots share them.
            room: bytes that the batch may have.
            longest: seconds of work that it may have.
        """
        if self._fixed is not None:
            return self._fixed
        if not self._largest or self.seconds > ALONE_S:
            return 1
        seconds = max(self.seconds, 1e-9)
        grown = GROWTH * self._largest
        if self._is_far:  # seven steps of 20 ms are a third of a short run
            grown = max(grown, min(self._worth, LEAP * self._largest))
        limit = min(self.limit, room)
        size = min(grown, int(min(self.work, longest) / seconds), int(limit / max(self.nbytes, 1)))
        if remaining is not None:
            size = min(size, self._share(remaining, max(slots, 1)))
        return max(size, 1)

    @property
    def _is_far(self) -> bool:
        # The shortest exchange counts: with many slots, the others include time in a queue.
        return FAR_S < self._nearest < math.inf

    @property
    def _worth(self) -> int:
        """How many tasks take as long as the exchange of a batch."""
        return int(self._exchange.value / max(self.seconds, 1e-9))

    def _share(self, remaining: int, slots: int) -> int:
        """How many tasks a batch may have once the number of remaining inputs is known.

        It is half of a slot's share of them. A batch that runs for less time than its exchange
        takes may have the whole share, or two shares over a slow link. It may also be larger if
        there are more slots than the master can keep busy: n batches take n x BATCH_COST_S of its
        time, and the slots take work / n, so the sum is least at n = sqrt(work / BATCH_COST_S). Nor
        is a batch made to run for less than BATCH_COST_S, once enough tasks were seen to be that
        short.
        """
        seconds = max(self.seconds, 1e-9)
        own = -(-remaining // (max(slots // 2, 1) if self._is_far else slots))
        least = int(math.sqrt(remaining * BATCH_COST_S / seconds))
        return max(
            -(-remaining // (2 * slots)),
            min(own, self._worth),
            min(-(-remaining // FEW_BATCHES), least),
            min(remaining, int(BATCH_COST_S / seconds), self._largest),
        )


class _Mean:
    """A mean in which older measurements count less."""

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
