"""Where a job's inputs come from: a list, or an iterable that is read ahead."""

from __future__ import annotations

import itertools
import pickle
from collections import deque
from collections.abc import Iterable

from dq._support.frozen import TYPE_CHECKING
from dq.core.records import Failure

if TYPE_CHECKING:
    from typing import NoReturn


class NoInput:
    """Stands in for an input that no longer exists. It cannot be pickled."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure

    def __reduce__(self) -> NoReturn:
        raise pickle.PicklingError(self.failure.message)


MISSING = NoInput(Failure("IndexError", "the list of inputs has become shorter since"))

# Types whose length is known and whose items are available at once. Other sequences may compute
# their items, or read them from somewhere.
AT_HAND = (list, tuple, range)


class Source:
    """A job's inputs, on their way from an iterable to batches.

    `take` never waits. An iterator may be slow, so a separate thread reads it ahead with `read`.
    Both threads use the buffer without a lock, because a deque is safe for one thread that appends
    and others that pop.

    Args:
        inputs: any iterable; one of `AT_HAND` is not read ahead.
    """

    def __init__(self, inputs: Iterable[object]) -> None:
        self._items = iter(inputs)
        self.length = len(inputs) if type(inputs) in AT_HAND else None  # type: ignore[arg-type]
        self.buffer: deque[object] = deque()

    def take(self, count: int) -> list[object]:
        """The next `count` inputs, all of which are known to be there."""
        if self.length is not None:
            items = list(itertools.islice(self._items, count))
            return items + [MISSING] * (count - len(items))
        pop = self.buffer.popleft
        return [pop() for _ in range(count)]

    def read(self, count: int) -> bool:
        """Read up to `count` inputs ahead, however long that takes; False at the end."""
        for item in self._items:
            self.buffer.append(item)
            self.buffer.extend(itertools.islice(self._items, count - 1))
            return True
        return False
