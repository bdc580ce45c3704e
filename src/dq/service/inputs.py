"""The inputs of a job, read from the disk when they are leased."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice, pairwise

from dq._support.spans import Span
from dq.core.records import Failure
from dq.data.blocks import unpack
from dq.data.sources import NoInput, Source
from dq.errors import DqError
from dq.service import rows
from dq.service.store import Store

Query = Callable[[sqlite3.Connection], tuple[int, bytes]]


class StoredInputs(Source):
    """The inputs of a job but for those to skip. No more than one block of them is in memory.

    Args:
        store: has them.
        key: the job's.
        total: how many it has.
        skips: ranges of tasks to skip, in ascending order.
    """

    def __init__(self, store: Store, key: int, total: int, skips: Sequence[Span]) -> None:
        super().__init__(_inputs(store, key, total, skips))
        self.length = total - sum(stop - start for start, stop in skips)


def _inputs(store: Store, key: int, total: int, skips: Sequence[Span]) -> Iterator[object]:
    index = 0
    for start, stop in [*skips, (total, total)]:
        while index < start:
            for item in _some(store, key, index, start):
                yield item
                index += 1
        index = stop


def _some(store: Store, key: int, index: int, stop: int) -> Iterator[object]:
    """Some inputs from one on, up to the end of its block."""
    try:
        first, data = store.read_inputs(partial(rows.block_with, key=key, index=index))
        yield from islice(unpack(data, index - first), stop - index)
    except (DqError, ValueError) as error:  # this task fails, and others may be whole
        yield NoInput(Failure(type(error).__name__, str(error)))


class InputReader:
    """The inputs of a job for somebody who reads them in order, of whom each block is read once.

    Args:
        read: has a query answered.
        key: the job's.
    """

    def __init__(self, read: Callable[[Query], tuple[int, bytes]], key: int) -> None:
        self._read = read
        self._key = key
        self._first = 0  # index of the first input of the block that was read last
        self._items: list[bytes] = []

    def between(self, start: int, stop: int) -> list[bytes]:
        """The inputs of consecutive tasks.

        Raises:
            DqError: one cannot be read.
        """
        found: list[bytes] = []
        while start + len(found) < stop:
            index = start + len(found)
            if not self._first <= index < self._first + len(self._items):
                query = partial(rows.block_with, key=self._key, index=index)
                self._first, data = self._read(query)
                self._items = list(unpack(data))
            found += self._items[index - self._first : stop - self._first]
        return found


def but(ids: Sequence[int], total: int) -> list[Span]:
    """The ranges to skip so that only some tasks run.

    >>> but([2, 3, 7], 10)
    [(0, 2), (4, 7), (8, 10)]
    """
    edges = [-1, *sorted(ids), total]
    pairs = pairwise(edges)
    return [(before + 1, after) for before, after in pairs if before + 1 < after]
