"""What the slots of a worker do, and since when, as their cells show it."""

from __future__ import annotations

import time
from collections.abc import Iterable

from dq.core.beats import SlotState
from dq.worker.cells import DONE, INDEX, LEASE, PROGRESS_OF, TOTAL
from dq.worker.child import Child

OBSERVE_INTERVAL_S = 0.2  # between two looks at the cells

# Lease, index, when they were seen first, and how far the task is.
_Seen = tuple[int, int, float, int | None, int | None]


class SlotStates:
    """Looks at the cells from time to time, in the supervisor's thread, which may close them. Other
    threads get what it saw last.

    Args:
        threads: how many slots a process has.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._seen: dict[int, _Seen] = {}  # by the slot's number; replaced, never changed
        self._due = 0.0

    def observe(self, children: Iterable[Child], now: float) -> None:
        """Look at the cells, if it is time."""
        if now < self._due:
            return
        self._due = now + OBSERVE_INTERVAL_S
        seen = {}
        for child in children:
            for thread, view in enumerate(child.slot_views(self._threads)):
                slot, lease, index = child.number * self._threads + thread, view[LEASE], view[INDEX]
                if lease:
                    before = self._seen.get(slot)
                    is_same = before is not None and before[:2] == (lease, index)
                    since = before[2] if before is not None and is_same else now
                    seen[slot] = (lease, index, since, *_progress(view, index))
        self._seen = seen

    def current(self, now: float | None = None) -> tuple[SlotState, ...]:
        """What the busy slots were doing; in any thread."""
        now = time.monotonic() if now is None else now
        return tuple(
            SlotState(slot, lease, index, max(now - since, 0.0), done, total)
            for slot, (lease, index, since, done, total) in sorted(self._seen.items())
        )


def _progress(view: memoryview, index: int) -> tuple[int | None, int | None]:
    if view[PROGRESS_OF] != index + 1:
        return None, None
    return view[DONE], view[TOTAL] or None
