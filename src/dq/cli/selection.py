"""The inputs that `--only` selects, by their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from typing import TypeVar

from dq._support.frozen import frozen
from dq._support.spans import Span
from dq.errors import BadInput

T = TypeVar("T")


@frozen
class Selection:
    """Some of a run's inputs. They keep their numbers.

    Args:
        spans: their numbers, in ascending order; there is at least one.

    >>> selection = Selection(((1, 2), (4, 6)))
    >>> list(selection.of("abcdefgh")), selection.count, selection.gaps
    (['b', 'e', 'f'], 3, [(0, 1), (2, 4)])
    """

    spans: tuple[Span, ...]

    @property
    def count(self) -> int:
        """How many they are."""
        return sum(stop - start for start, stop in self.spans)

    @property
    def gaps(self) -> list[Span]:
        """The numbers before and between them, which the run passes over."""
        return [(before[1], after[0]) for before, after in pairwise(((0, 0), *self.spans))]

    def of(self, items: Iterable[T]) -> Iterator[T]:
        """These of the inputs. No more is read than that takes.

        Raises:
            BadInput: there are not so many.
        """
        numbered, count = enumerate(items), 0
        for start, stop in self.spans:
            for index, item in islice(numbered, stop - count):
                count = index + 1
                if index >= start:
                    yield item
            if count < stop:
                raise self._beyond(max(start, count), count)

    def _beyond(self, number: int, count: int) -> BadInput:
        if not count:
            return BadInput(f"--only {number}: there is no input")
        are = "is 1 input, number 0" if count == 1 else f"are {count} inputs, from 0 to {count - 1}"
        return BadInput(f"--only {number}: there {are}")
