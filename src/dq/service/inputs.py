"""The inputs of a job, read from the disk when they are leased."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice, pairwise

from dq._support.spans import Span
from dq.core.records import Failure
from dq.data.blocks import unpack
from dq.data.sources import NoInput, Source
from dq.errors import DqError
from dq.service import rows
from dq.service.store import Store


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


def inputs_between(store: Store, key: int, start: int, stop: int) -> list[bytes]:
    """The inputs of consecutive tasks, for a client.

    Raises:
        DqError: one cannot be read.
    """
    found: list[bytes] = []
    while start + len(found) < stop:
        index = start + len(found)
        first, data = store.read(partial(rows.block_with, key=key, index=index))
        found += islice(unpack(data, index - first), stop - index)
    return found


def but(ids: Sequence[int], total: int) -> list[Span]:
    """The ranges to skip so that only some tasks run.

    >>> but([2, 3, 7], 10)
    [(0, 2), (4, 7), (8, 10)]
    """
    edges = [-1, *sorted(ids), total]
    pairs = pairwise(edges)
    return [(before + 1, after) for before, after in pairs if before + 1 < after]
