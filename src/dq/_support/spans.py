"""Sets of tasks as spans of their ids, for people."""

from __future__ import annotations

import re
from collections.abc import Iterable

Span = tuple[int, int]  # id of the first task, and the id after the last

_SPAN = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
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


def parse(text: str) -> tuple[Span, ...]:
    """Read spans as people write them, in any order, and merge those that touch.

    Raises ValueError when the text is something else.

    >>> parse("17"), parse("8-9, 3, 5-7, 6")
    (((17, 18),), ((3, 4), (5, 10)))
    """
    spans: list[Span] = []
    for part in sorted(map(_span, text.split(",")), key=lambda span: span[0]):
        if spans and part[0] <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], part[1]))
        else:
            spans.append(part)
    return tuple(spans)


def _span(text: str) -> Span:
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text.strip()!r} is neither a number nor two, as in 17 or 3,5-8")
    first, last = int(found[1]), int(found[2] or found[1])
    if last < first:
        raise ValueError(f"{text.strip()!r} ends before it begins")
    return first, last + 1
