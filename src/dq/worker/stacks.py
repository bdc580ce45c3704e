"""Where the threads of task processes are, even of one that never releases the interpreter's lock.

`faulthandler` writes that in a signal's handler, to the file with the process's cells, behind them.
The process and its supervisor share the descriptor's offset, so the supervisor sets it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import socket
import sys
import time
from collections.abc import Iterable, Iterator

from dq._support import platform
from dq.core.beats import Stacks
from dq.worker.cells import STACKS
from dq.worker.child import Child

# Of the signals that no program and no library is known to use. Linux only: the supervisor must
# see in /proc that the handler is there, since without it the signal would end the process.
SIGNAL = signal.SIGRTMAX - 1 if sys.platform == "linux" else 0
TIMEOUT_S = 0.5  # for all processes of a worker to answer
POLL_INTERVAL_S = 0.005
MOST_BYTES = 64 * 1024  # of one process
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def offer(cells: platform.Cells) -> None:
    """Have this process answer; called in a task process."""
    if SIGNAL:
        faulthandler.register(SIGNAL, file=cells.fd, all_threads=True)
        cells.view[STACKS] = cells.fd + 1


def take(children: Iterable[Child], threads: int) -> tuple[Stacks, ...]:
    """Where the threads of task processes are; in any thread of their supervisor's process.

    Args:
        children: the processes.
        threads: how many slots each has.
    """
    asked = [_Asked(child) for child in children]
    deadline = time.monotonic() + TIMEOUT_S
    left = asked
    while left and time.monotonic() < deadline:
        left = [one for one in left if not one.is_complete()]
        time.sleep(POLL_INTERVAL_S if left else 0.0)
    host = socket.gethostname()
    found = []
    for one in asked:
        text, error = one.finish()
        slots = (one.number * threads, threads)
        found.append(Stacks(f"{host}:{one.pid}", slots, text, error))
    return tuple(sorted(found, key=lambda stacks: stacks.slots))


class _Asked:
    """A process that has been asked, unless it cannot answer."""

    def __init__(self, child: Child) -> None:
        self.pid, self.number = child.pid, child.number
        self._file, self._start, self._size = -1, 0, 0
        self._error = ""
        try:
            self._file, self._start, cell = child.open_cells()
            self._error = _why_not(self.pid, self._file, cell - 1)
            if not self._error:
                os.ftruncate(self._file, self._start)
                os.lseek(self._file, self._start, os.SEEK_SET)
                os.kill(self.pid, SIGNAL)
        except (ProcessLookupError, FileNotFoundError):
            self._error = "it has ended"
        except OSError as error:
            self._error = f"it cannot be asked: {error.strerror}"

    def is_complete(self) -> bool:
        """Whether it has written something, and nothing more since the last call: its handler
        writes all in one go, and no mark at the end."""
        if self._error:
            return True
        before, self._size = self._size, os.fstat(self._file).st_size - self._start
        return 0 < self._size == before

    def finish(self) -> tuple[str, str]:
        """What it has written, or why it has not."""
        text = b"" if self._error else os.pread(self._file, MOST_BYTES, self._start)
        if self._file >= 0:
            os.close(self._file)
        if not text:
            return "", self._error or f"it did not answer within {TIMEOUT_S:g} s"
        return "\n\n".join(_of_tasks(text.decode("utf-8", "backslashreplace"))), ""


def _why_not(pid: int, file: int, theirs: int) -> str:
    """Why a process cannot be asked; "" if it can.

    Args:
        pid: the process.
        file: this process's descriptor of the file with its cells.
        theirs: that process's own; -1 if it has not offered it.

    Raises:
        OSError: there is no such process.
    """
    if not SIGNAL:
        return "that needs Linux"
    if theirs < 0:
        return "it is being started"
    if platform.is_stopped(pid):
        return "it is stopped (SIGSTOP)"
    if not _handles_signal(pid):
        return "it runs another program, or a task has taken the signal"
    return "" if _has_open(pid, theirs, file) else "a task has closed a descriptor of dq"


def _handles_signal(pid: int) -> bool:
    with open(f"/proc/{pid}/status") as status:
        caught = next((line.split()[1] for line in status if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (SIGNAL - 1) & 1)


def _has_open(pid: int, descriptor: int, file: int) -> bool:
    """Whether a process's descriptor is for this file, and not for one that a task has opened."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file), os.stat(f"/proc/{pid}/fd/{descriptor}"))
    return False


def _of_tasks(text: str) -> Iterator[str]:
    """The threads that run a task's code, each with its calls down to dq's own."""
    for thread in text.split("\n\n"):
        head, *calls = thread.strip().split("\n")
        ours = next((at for at, call in enumerate(calls) if f'"{_OURS}' in call), len(calls))
        if ours:
            yield "\n".join([head, *calls[:ours]])
