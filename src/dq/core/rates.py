"""How many tasks of a job may be started in a second."""

from __future__ import annotations

LATE_S = 0.01  # a batch that is leased so much late is made up for; and as much is leased at once
STEADY = 1 - LATE_S  # of the rate, so that with what is made up for it is never more in any second
LEAST_S = 0.005  # of the rate that a batch has at least: each takes the master 0.1 ms
WORK_S = 0.01  # seconds of work that a batch has at most, so that its tasks start when leased
ROUNDING = 1e-9


class TokenBucket:
    """A token for each task that may be leased now, so that the rate holds for all workers at once.

    In any second, no more tasks are leased than the rate says (rounded up to a whole task), and no
    more than 1 % fewer over a long time, if they are leased within 10 ms.

    Args:
        rate: tasks a second.

    Attributes:
        due: when there will be enough tokens, if there were not when they were last asked for.

    >>> bucket = TokenBucket(10)
    >>> bucket.available(now=5.0)
    1
    >>> bucket.take(1)
    >>> bucket.available(now=5.05), bucket.due
    (0, 5.10...)
    """

    __slots__ = ("_at", "_capacity", "_least", "_rate", "_tokens", "due")

    def __init__(self, rate: float) -> None:
        self._rate = STEADY * rate
        self._capacity = 1 + LATE_S * rate
        self._least = max(1, int(LEAST_S * rate))
        self._tokens = 1.0 * self._least
        self._at: float | None = None
        self.due: float | None = None

    @property
    def tokens(self) -> int:
        """How many there were when they were last asked for."""
        return int(self._tokens + ROUNDING)

    def available(self, now: float) -> int:
        """How many tasks may be leased now; 0 if they are too few for a batch."""
        passed = 0.0 if self._at is None else max(now - self._at, 0.0)
        self._at = now
        self._tokens = min(self._tokens + passed * self._rate, self._capacity)
        if self.tokens >= self._least:
            self.due = None
            return self.tokens
        self.due = now + (self._least - self._tokens) / self._rate
        return 0

    def take(self, count: int) -> None:
        """Take tokens for a batch."""
        self._tokens -= count

    def put_back(self, count: int) -> None:
        """Return the tokens of tasks that were not started, as far as the bucket holds them: those
        that were saved up must not be used all at once."""
        self._tokens = min(self._tokens + count, self._capacity)
