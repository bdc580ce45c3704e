"""The cells of memory that a task process shares with its supervisor.

From them the supervisor can tell which task a process was running, even if the process has died or
never releases the interpreter's lock.
"""

from __future__ import annotations

import errno
import os
import time

from dq._support import platform

# A process's own cells: its state, and whether it has been told to leave. The pipe says the latter
# too, but the thread that reads the pipe may have to wait for its turn. Slots see the cell at once.
# The others are for `dq.worker.stacks`: numbers of the last request of its supervisor, and of the
# last one that it has answered. The text is in the last cells: its length, and its bytes.
STATE, LEAVING, ASKED, ANSWERED = range(4)
PROCESS_CELLS = 4
STACK_CELLS = 8192
CELL_BYTES = 8

# What `STATE` holds: 0 at first, then one of these, then one of the exit codes. The exit code of
# the process does not show why it ended, because a task may call `os._exit` with the same number.
CONNECTED, LOADING, LOADED = 1, 2, 3
EXIT_CODES = FINISHED, RECYCLE, LOST, DRAINED, REFUSED, GONE = 10, 11, 12, 13, 14, 15

# Each slot's cells. Times are in nanoseconds of the monotonic clock.
# LEASE     the lease that the slot works on, 0 between batches
# INDEX     index of the task that it runs
# DEADLINE  when that task has to be over
# LAST      the last lease that it had, which it may not have reported yet
# SPAN      how many tasks `INDEX` stands for
# ENCODED   index of the first result that is being encoded (encoding may run a task's code)
# ENCODING  how many results are being encoded, 0 for none
# DONE      how far a task is, as it says itself
# TOTAL     of how much; 0 if it does not say
# PROGRESS_OF  index of the task that has said so, plus 1; 0 for none
# CODED_BY  when encoding results, or unpickling inputs, has to be over
LEASE, INDEX, DEADLINE, LAST, SPAN, ENCODED, ENCODING, CODED_BY = range(8)
DONE, TOTAL, PROGRESS_OF = range(8, 11)
SLOT_CELLS = 11

CODING_EXTRA_S = 5.0  # beyond a task's time limit, to unpickle inputs and to encode results
LOAD_EXTRA_S = 8.0  # beyond a task's time limit, to load the function


def count(threads: int) -> int:
    """How many cells a process of so many slots has."""
    return PROCESS_CELLS + SLOT_CELLS * threads


def shared(threads: int) -> platform.Cells:
    """New cells for a process of so many slots, and behind them room for where its threads are:
    none if no file may be so large (`ulimit -f`).

    Raises:
        OSError: the system has no room for them.
    """
    try:
        return platform.shared_cells(count(threads) + STACK_CELLS)
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        return platform.shared_cells(count(threads))


def opened(fd: int) -> platform.Cells:
    """What the supervisor has made with `shared`; the descriptor belongs to it from now on."""
    return platform.Cells.open(fd, os.fstat(fd).st_size // CELL_BYTES)


def slot_views(cells: platform.Cells, threads: int) -> list[memoryview]:
    """Each slot's own cells."""
    starts = range(PROCESS_CELLS, count(threads), SLOT_CELLS)
    return [cells.view[start : start + SLOT_CELLS] for start in starts]


def write_stacks(cells: platform.Cells, text: bytes) -> None:
    """Write where a process's threads are, as far as there is room."""
    length, room = _stacks(cells)
    written = text[: room.nbytes]
    room[: len(written)] = written
    length[0] = len(written)


def read_stacks(cells: platform.Cells) -> bytes:
    """Read that."""
    length, room = _stacks(cells)
    return bytes(room[: length[0]])


def _stacks(cells: platform.Cells) -> tuple[memoryview, memoryview]:
    """The cell with the length of the text, and the bytes of the text."""
    room = cells.view[-STACK_CELLS:]
    return room[:1], room[1:].cast("B")


class SlotCells:
    """Shows the supervisor which task a slot runs, and until when it may run."""

    __slots__ = ("view",)

    def __init__(self, view: memoryview) -> None:
        self.view = view

    def announce(self, lease: int, index: int, span: int) -> None:
        """Show the supervisor which tasks this slot may be running."""
        view = self.view
        view[INDEX], view[SPAN], view[PROGRESS_OF] = index, span, 0
        view[LEASE] = view[LAST] = lease

    def limit_task(self, seconds: float) -> None:
        """Limit the current task to so many seconds."""
        self.view[DEADLINE] = time.monotonic_ns() + int(seconds * 1e9)

    def end_task(self) -> None:
        """Note that no task with a time limit runs."""
        self.view[DEADLINE] = 0

    def limit_coding(self, timeout: float | None, extra: float = CODING_EXTRA_S) -> None:
        """Limit the time to unpickle inputs or encode results, if tasks have a limit."""
        if timeout is not None:
            self.view[CODED_BY] = time.monotonic_ns() + int((timeout + extra) * 1e9)

    def end_coding(self) -> None:
        """Note that nothing is being unpickled or encoded."""
        self.view[ENCODING] = self.view[CODED_BY] = 0

    def begin_encoding(self, start: int, count: int) -> None:
        """Note that the results of these tasks are being encoded."""
        self.view[ENCODED], self.view[ENCODING] = start, count

    def end_lease(self) -> None:
        """Note that the slot has no batch."""
        self.view[LEASE] = 0

    def after_fork(self) -> None:
        """Detach a process that a task has forked from the cells that the supervisor reads."""
        self.view = memoryview(bytearray(8 * SLOT_CELLS)).cast("Q")
