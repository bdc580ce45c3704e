"""How long the tasks of a job take: a small sketch of the distribution."""

from __future__ import annotations

import math

STEP = math.log(1.05)  # two durations that differ by less than 5 % may count as the same
SHORTEST_S = 1e-6


class Durations:
    """Counts of durations, in some hundred ranges each 5 % wide.

    >>> durations = Durations()
    >>> durations.add(1.0, 95); durations.add(60.0, 5)
    >>> durations.count, round(durations.quantile(0.95), 1), round(durations.quantile(0.96))
    (100, 1.0, 60)
    """

    __slots__ = ("_counts", "count")

    def __init__(self) -> None:
        self.count = 0
        self._counts: dict[int, int] = {}

    def add(self, seconds: float, count: int = 1) -> None:
        """Count `count` tasks that took so many seconds each."""
        place = round(math.log(max(seconds, SHORTEST_S)) / STEP)
        self._counts[place] = self._counts.get(place, 0) + count
        self.count += count

    def quantile(self, part: float) -> float:
        """The duration that this part of the tasks did not exceed, from 0 to 1."""
        left = part * self.count
        for place in sorted(self._counts):
            left -= self._counts[place]
            if left <= 0:
                return math.exp(place * STEP)
        return 0.0
