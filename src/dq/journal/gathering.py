"""Gathers what one transaction is to write from a queue."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

COMMIT_INTERVAL_S = 0.05
MOST_AT_ONCE = 1000


def gathered(
    waiting: queue.Queue[T | None], is_awaited: Callable[[T], bool] = lambda one: False
) -> Iterator[list[T]]:
    """What to commit at once, at intervals of COMMIT_INTERVAL_S or more, until a None is taken.

    Args:
        waiting: the queue.
        is_awaited: whether somebody waits for one, which is then not held up by the interval.

    >>> waiting = queue.Queue()
    >>> for one in (1, 2, None):
    ...     waiting.put(one)
    >>> list(gathered(waiting))
    [[1, 2]]
    """
    until = 0.0
    while (one := waiting.get()) is not None:
        chosen = [one]
        is_urgent = is_awaited(one)
        while one is not None and len(chosen) < MOST_AT_ONCE:
            left = 0.0 if is_urgent else until - time.monotonic()
            try:
                one = waiting.get(timeout=max(left, 0.0))
            except queue.Empty:
                break
            if one is not None:
                chosen.append(one)
                is_urgent = is_urgent or is_awaited(one)
        yield chosen
        if one is None:
            return
        until = time.monotonic() + COMMIT_INTERVAL_S
