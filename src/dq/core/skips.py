"""Which tasks of a job are not to be run."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable


class Skips:
    """Ranges of indices that a job passes over: 16 bytes of memory for each gap between others.

    Args:
        ranges: pairs of the first index and the one after the last, in ascending order.

    Raises:
        ValueError: they overlap, or are not in ascending order.

    >>> skips = Skips([(0, 2), (2, 3), (7, 9)])
    >>> skips.after(0), skips.after(5), skips.room(3)
    (3, 5, 4)
    """

    __slots__ = ("_starts", "_stops")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts = array("q")
        self._stops = array("q")
        last = 0
        for start, stop in ranges:
            if not last <= start <= stop:
                raise ValueError(f"the range {start}..{stop} comes after index {last}")
            if start == stop:
                continue
            if self._stops and start == last:
                self._stops[-1] = stop
            else:
                self._starts.append(start)
                self._stops.append(stop)
            last = stop

    def after(self, index: int) -> int:
        """The first index from this one on that is not skipped."""
        place = bisect_right(self._starts, index) - 1
        return max(index, self._stops[place]) if place >= 0 else index

    def count(self, start: int, stop: int) -> int:
        """How many indices from `start` to before `stop` are skipped.

        >>> Skips([(0, 2), (7, 9)]).count(1, 8)
        2
        """
        first = max(bisect_right(self._starts, start) - 1, 0)
        last = bisect_right(self._starts, stop)
        ranges = zip(self._starts[first:last], self._stops[first:last], strict=True)
        return sum(max(min(b, stop) - max(a, start), 0) for a, b in ranges)

    def room(self, index: int) -> int | None:
        """How many indices from this one on are not skipped; None if none is skipped later."""
        place = bisect_right(self._starts, index)
        return self._starts[place] - index if place < len(self._starts) else None
