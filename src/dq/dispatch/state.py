"""The state that all parts of a dispatcher share."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterator

from dq.core.board import Board
from dq.dispatch.served_job import PLAIN, ServedJob


class DispatchState:
    """The board, the served jobs, and the lock that guards both and the state of each part of the
    dispatcher. A comment marks whatever another lock guards, or none.

    Args:
        clock: seconds of a steady clock.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.lock = threading.RLock()  # reentrant: parts call each other
        # Held while inputs are taken and pickled; never acquired while `lock` is held. The GIL lets
        # only one thread at a time pickle anyway. Without this lock a thousand threads could each
        # have a batch in memory.
        self.turn = threading.Lock()
        self.board = Board(_lease_ids())
        self.served_jobs: dict[str, ServedJob] = {}
        self.stopping = False

    def lacks_plain_task(self) -> bool:
        """Whether only workers with a --task have a function for the items of plain clients."""
        served = self.served_jobs.get(PLAIN)
        return served is not None and served.spec.ref is None

    def has_items_without_task(self) -> bool:
        """Whether there are items of plain clients that only workers with a --task can run."""
        served = self.served_jobs.get(PLAIN)  # no calls, since this runs three times for each task
        return served is not None and served.spec.ref is None and served.job.has_more


def _lease_ids() -> Iterator[int]:
    """Random numbers of 63 bits. Each system call gets many of them."""
    while True:
        for number in struct.unpack("64Q", os.urandom(512)):
            if number >> 1:
                yield number >> 1
