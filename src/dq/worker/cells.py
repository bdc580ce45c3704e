"""What a task process and its supervisor tell each other through shared memory."""

from __future__ import annotations

import time

from dq.worker.child import CELLS, OWN

# Cells that a slot shares with its supervisor: the lease it works on (0 between batches), the
# index of the task it is in, and when that has to be over, in nanoseconds of the monotonic clock;
# the last lease it had, which it may not have reported yet; how many tasks the index stands for;
# and of the results that are being encoded, which may run a task's code too: the first one's index,
# how many (0 when none is), and when that, or to unpickle inputs, has to be over.
LEASE, INDEX, DEADLINE, LAST, SPAN, ENCODED, ENCODING, CODED_BY = range(CELLS)
# The process's own: 0 at first, then one of these, then how it ends, so that a task's own os._exit
# with the same number is not taken for that; and whether it is to leave, which a slot sees here at
# once, while the thread that hears of it on the pipe waits for its turn.
STATE, LEAVING = range(OWN)
CONNECTED, LOADING, LOADED = 1, 2, 3

# How a task process ends, for its supervisor.
CODES = FINISHED, RECYCLE, LOST, DRAINED, REFUSED = 10, 11, 12, 13, 14

LOAD_EXTRA_S = 8.0  # that to load a function may take besides a task's time limit
CODING_EXTRA_S = 5.0  # that a task with a time limit has besides: to unpickle, to encode results


class SlotCells:
    """Which task a slot is in and until when, for its supervisor."""

    __slots__ = ("view",)

    def __init__(self, view: memoryview) -> None:
        self.view = view

    def tell(self, lease: int, index: int, span: int) -> None:
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

    def detach(self) -> None:
        """In a process that a task has forked: touch nothing that the supervisor sees."""
        self.view = memoryview(bytearray(8 * CELLS)).cast("Q")
