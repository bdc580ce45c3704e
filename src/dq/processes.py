"""Task processes as such: started fresh, with a pipe and shared memory, and told later what to do.

Apart from `dq.supervisor`, so that a command can start them before it imports everything else.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from dq import keys, system
from dq.errors import DqError

# Cells that a task process shares with its supervisor: the process's own, then so many of each
# slot. `dq.worker` says what they hold.
OWN = 2
CELLS = 8


class Child:
    """One task process.

    Attributes:
        ended: why the supervisor has ended it.
        timed_out: then the one task is charged, and no other of the process's.
    """

    def __init__(self, popen: subprocess.Popen[bytes], cells: system.Cells) -> None:
        self.popen = popen
        self.cells = cells
        self.started = time.monotonic()
        self.ended = ""
        self.timed_out = False

    def close(self) -> None:
        """Give back what it had of this process; it has ended."""
        self.cells.close()
        if self.popen.stdin is not None:
            self.popen.stdin.close()


def count(threads: int) -> int:
    """How many cells a process of so many slots has."""
    return OWN + CELLS * threads


def slots(cells: system.Cells, threads: int) -> list[memoryview]:
    """Each slot's own cells."""
    starts = range(OWN, count(threads), CELLS)
    return [cells.view[start : start + CELLS] for start in starts]


def start(threads: int) -> Child:
    """Start a process for so many slots, which waits to be told the rest on its standard input.

    Raises:
        DqError: the system has no room for it.
    """
    cells = None
    try:
        cells = system.shared_cells(count(threads))
        popen = subprocess.Popen(
            _command(),
            stdin=subprocess.PIPE,
            stdout=None if _usable(1) else subprocess.DEVNULL,
            pass_fds=(cells.fd,),
            env=keys.scrub(os.environ),
            # Out of the terminal's group: Ctrl-C is for the supervisor, which lets tasks
            # finish; and whatever a task leaves behind can be ended with it.
            start_new_session=True,
        )
    except OSError as error:
        if cells is not None:
            cells.close()
        raise DqError(f"cannot start a task process: {error.strerror}") from None
    return Child(popen, cells)


def dismiss(children: list[Child]) -> None:
    """Let processes go that were not told anything: they end with their standard input."""
    for child in children:
        if child.popen.stdin is not None:
            child.popen.stdin.close()
    while children:
        child = children.pop()
        child.popen.wait()
        child.close()


def _command() -> list[str]:
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # In place of the current directory, where a user's queue.py would hide the real one.
    # Nothing that is imported becomes garbage: looking for some takes 2 ms of 30.
    code = f"import gc, sys; gc.disable(); sys.path[0] = {home!r}; import dq.worker as w; w.main()"
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as spawn does
    return [sys.executable, *flags, "-c", code]


def _usable(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
