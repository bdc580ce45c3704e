"""The cells of memory that a task process shares with its supervisor.

The supervisor can read there which task a process is in that has died, or that holds the
interpreter's lock for ever.
"""

from __future__ import annotations

import time

from dq._support import platform

# A process's own cells: its state, and whether it is to leave, which a slot sees here at once,
# while the thread that reads it from the pipe waits for its turn.
STATE, LEAVING = range(2)
PROCESS_CELLS = 2

# What `STATE` holds: 0 at first, then one of these, then one of the exit codes. It says why a
# process ends, because a task's own `os._exit` may have the same number.
CONNECTED, LOADING, LOADED = 1, 2, 3
EXIT_CODES = FINISHED, RECYCLE, LOST, DRAINED, REFUSED = 10, 11, 12, 13, 14

# Each slot's cells. Times are in nanoseconds of the monotonic clock.
# LEASE     the lease that the slot works on, 0 between batches
# INDEX     index of the task that it is in
# DEADLINE  when that task has to be over
# LAST      the last lease that it had, which it may not have reported yet
# SPAN      how many tasks `INDEX` stands for
# ENCODED   of the results that are being encoded, which may run a task's code: the first index,
# ENCODING  and how many they are, 0 when none is
# CODED_BY  when that, or to unpickle inputs, has to be over
LEASE, INDEX, DEADLINE, LAST, SPAN, ENCODED, ENCODING, CODED_BY = range(8)
SLOT_CELLS = 8

CODING_EXTRA_S = 5.0  # that a task with a time limit has besides to unpickle and to encode
LOAD_EXTRA_S = 8.0  # that loading a function may take besides a task's time limit


def count(threads: int) -> int:
    """How many cells a process of so many slots has."""
    return PROCESS_CELLS + SLOT_CELLS * threads


def slot_views(cells: platform.Cells, threads: int) -> list[memoryview]:
    """Each slot's own cells."""
    starts = range(PROCESS_CELLS, count(threads), SLOT_CELLS)
    return [cells.view[start : start + SLOT_CELLS] for start in starts]


class SlotCells:
    """Which task a slot is in and until when, for its supervisor."""

    __slots__ = ("view",)

    def __init__(self, view: memoryview) -> None:
        self.view = view

    def announce(self, lease: int, index: int, span: int) -> None:
        """Let the supervisor know which tasks this slot may be in."""
        view = self.view
        view[INDEX], view[SPAN] = index, span
        view[LEASE] = view[LAST] = lease

    def limit_task(self, seconds: float) -> None:
        """The task that runs has to be over in so many seconds."""
        self.view[DEADLINE] = time.monotonic_ns() + int(seconds * 1e9)

    def end_task(self) -> None:
        """No task runs that has a time limit."""
        self.view[DEADLINE] = 0

    def limit_coding(self, timeout: float | None, extra: float = CODING_EXTRA_S) -> None:
        """To unpickle inputs, or to encode results, has so many seconds, if tasks have a limit."""
        if timeout is not None:
            self.view[CODED_BY] = time.monotonic_ns() + int((timeout + extra) * 1e9)

    def end_coding(self) -> None:
        """Nothing is being unpickled or encoded."""
        self.view[ENCODING] = self.view[CODED_BY] = 0

    def begin_encoding(self, start: int, count: int) -> None:
        """The results of these tasks are being encoded."""
        self.view[ENCODED], self.view[ENCODING] = start, count

    def end_lease(self) -> None:
        """No batch is being worked on."""
        self.view[LEASE] = 0

    def after_fork(self) -> None:
        """In a process that a task has forked: write nothing that the supervisor reads."""
        self.view = memoryview(bytearray(8 * SLOT_CELLS)).cast("Q")
