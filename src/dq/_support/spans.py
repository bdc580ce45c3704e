"""Sets of tasks as spans of their ids, for people."""

from __future__ import annotations

from collections.abc import Iterable

Span = tuple[int, int]  # id of the first task, and the id after the last

SHOWN = 10  # spans that are listed one by one


class Spans:
    """A set of ids, added as spans in any order, each id once.

    >>> spans = Spans([(0, 5), (6, 7)])
    >>> str(spans), spans.count, spans.has_gaps
    ('0-4, 6', 6, True)
    """

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self.count = 0
        self._starts: dict[int, int] = {}  # the end of each span, by its start
        self._stops: dict[int, int] = {}  # the start of each span, by its end
        for start, stop in spans:
            self.add(start, stop)

    def add(self, start: int, stop: int) -> None:
        """Add a span, and merge it with the spans that it touches."""
        self.count += stop - start
        start = self._stops.pop(start, start)
        stop = self._starts.pop(stop, stop)
        self._starts[start] = stop
        self._stops[stop] = start

    @property
    def has_gaps(self) -> bool:
        """Whether an id before the last one is missing."""
        return bool(self._starts) and self._starts.keys() != {0}

    def __str__(self) -> str:
        return listed(sorted(self._starts.items()))


def listed(spans: list[Span]) -> str:
    """Spans as people write them.

    >>> listed([(0, 5), (6, 7)])
    '0-4, 6'
    """
    shown = [f"{a}-{b - 1}" if b - a > 1 else str(a) for a, b in spans[:SHOWN]]
    more = [f"and {len(spans) - SHOWN} more spans"] if len(spans) > SHOWN else []
    return ", ".join(shown + more)
