"""Task processes as such: started fresh, with a pipe and shared memory, and told later what to do.

Apart from `dq.worker.supervisor`, so that a command can start them before it imports all the rest.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable

from dq._support import platform
from dq._support.hash_seed import HASH_SEED, hash_seed
from dq.errors import DqError
from dq.security import keys

# Cells that a task process shares with its supervisor: the process's own, then so many of each
# slot. `dq.worker.cells` says what they hold.
OWN = 2
CELLS = 8

GRACE = 5.0  # seconds that a process has to leave as an interpreter does

DRAIN = b"d"  # what a process that has been told all reads when it is to leave
SIZE = 8  # bytes that say how long the message is that tells it all

# What BLAS libraries and others of that kind take the number of their threads from. Each starts one
# for each CPU where nothing is set: N processes on N CPUs would have N times N.
THREADS = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
OMP_THREADS = "OMP_NUM_THREADS"  # which most of those go by, too
MARK = "DQ_TASK_PROCESS"  # set in a task process until it knows that it is one
SLOT = "DQ_SLOT"


class Child:
    """One task process.

    Attributes:
        number: which of its supervisor's it is, from 0; that of one that it replaces.
        ended: why the supervisor has ended it.
        left: when it was first seen to have no more to do; 0 before.
        timed_out: then the one task is charged, and no other of the process's.
    """

    def __init__(self, popen: subprocess.Popen[bytes], cells: platform.Cells, number: int) -> None:
        self.popen = popen
        self.cells = cells
        self.number = number
        self.ended = ""
        self.left = 0.0
        self.timed_out = False
        self._lock = threading.Lock()  # guards the two below, and what is written after the message
        self._told = False
        self._draining = False

    def tell(self, message: bytes) -> None:
        """Tell it what to do, in a thread that has time: the process reads that once it has
        started, and a pipe takes 64 KiB at most until then."""
        assert self.popen.stdin is not None
        try:
            # One's own, since the other may be closed meanwhile, and its number be another file's.
            pipe = os.dup(self.popen.stdin.fileno())
        except (OSError, ValueError):  # it has ended, and been closed
            return
        try:
            left = memoryview(len(message).to_bytes(SIZE, "big") + message)
            while left:
                left = left[os.write(pipe, left) :]
            with self._lock:
                self._told = True
                if self._draining:
                    os.write(pipe, DRAIN)
        except OSError:
            pass  # it has died: who waits for it will say so
        finally:
            os.close(pipe)

    def drain(self) -> None:
        """Have it leave once it has been told all; never waits."""
        assert self.popen.stdin is not None
        with self._lock:
            self._draining = True
            if self._told:
                try:
                    os.write(self.popen.stdin.fileno(), DRAIN)
                except OSError:
                    pass  # it has died

    def after_fork(self) -> None:
        """In a fork of this process's parent, which alone can wait for it."""
        self.popen.returncode = 0
        self.close()

    def close(self) -> None:
        """Give back what it had of this process; it has ended."""
        self.cells.close()
        if self.popen.stdin is not None:
            self.popen.stdin.close()


def count(threads: int) -> int:
    """How many cells a process of so many slots has."""
    return OWN + CELLS * threads


def slot_views(cells: platform.Cells, threads: int) -> list[memoryview]:
    """Each slot's own cells."""
    starts = range(OWN, count(threads), CELLS)
    return [cells.view[start : start + CELLS] for start in starts]


def start_child(
    threads: int,
    number: int = 0,
    sharing: int = 1,
    seed: int | None = None,
    stderr: Callable[[], int] | None = None,
) -> Child:
    """Start a process for so many slots, which waits to be told the rest on its standard input.

    Args:
        threads: how many slots.
        number: which of its supervisor's processes it is.
        sharing: how many processes the CPUs are for.
        seed: of its hashes; None for this process's.
        stderr: makes a descriptor for its standard error; None for this process's.

    Raises:
        DqError: the system has no room for it.
    """
    refuse_within_one()
    cells, pipe, errors = None, None, None
    try:
        errors = None if stderr is None else stderr()
        cells = platform.shared_cells(count(threads))
        if is_frozen():
            pipe = _pipe_to_frozen()
        popen = subprocess.Popen(
            _command() if pipe is None else _frozen_command(pipe),
            stdin=subprocess.PIPE,
            stdout=None if _usable(1) else subprocess.DEVNULL,
            stderr=errors,
            pass_fds=(cells.fd,) if pipe is None else (cells.fd, pipe),
            env=_environment(number, sharing, hash_seed() if seed is None else seed),
            # Out of the terminal's group: Ctrl-C is for the supervisor, which lets tasks
            # finish; and whatever a task leaves behind can be ended with it.
            start_new_session=True,
        )
    except OSError as error:
        if cells is not None:
            cells.close()
        raise DqError(f"cannot start a task process: {error.strerror}") from None
    finally:
        for descriptor in (pipe, errors):
            if descriptor is not None:
                os.close(descriptor)
    return Child(popen, cells, number)


def _environment(number: int, sharing: int, seed: int) -> dict[str, str]:
    environ = keys.scrub(os.environ)
    environ[MARK] = "1"
    environ[SLOT] = str(number)
    environ[HASH_SEED] = str(seed)
    if OMP_THREADS not in environ:  # else the user has said how many, for those that go by it too
        from dq._support import quantities  # here, since task processes need none of it

        threads = str(max(1, quantities.cpus() // max(sharing, 1)))
        environ[OMP_THREADS] = threads
        for name in THREADS:
            environ.setdefault(name, threads)
    return environ


def dismiss(children: list[Child]) -> None:
    """Let processes go that were not told anything: they end with their standard input."""
    for child in children:
        if child.popen.stdin is not None:
            child.popen.stdin.close()
    while children:
        child = children.pop()
        child.popen.wait()
        child.close()


def refuse_within_one() -> None:
    """Keep a program that begins anew in a task process, and does not notice, from starting others
    in which it begins anew.

    Raises:
        DqError: this is one.
    """
    if MARK in os.environ:
        raise DqError(
            f"this is a task process, in which {sys.argv[0] if sys.argv else 'its program'} has"
            " begun anew: import dq at the program's top, or call"
            " multiprocessing.freeze_support() first"
        )


def is_frozen() -> bool:
    """Whether the program is its own interpreter, as PyInstaller makes it."""
    return bool(getattr(sys, "frozen", False))


def _pipe_to_frozen() -> int:
    """What `multiprocessing.freeze_support` reads in a process of its own: nothing to prepare, and
    something of dq's, to import which is enough."""
    read, write = os.pipe()
    with open(write, "wb") as pipe:
        pipe.write(pickle.dumps({}) + pickle.dumps(DqError))
    return read


def _frozen_command(pipe: int) -> list[str]:
    # What multiprocessing gives to a program of its own, for `freeze_support` to find; where the
    # program imports dq before that, it comes to nothing else. See `dq.__init__`.
    return [sys.executable, "--multiprocessing-fork", "tracker_fd=None", f"pipe_handle={pipe}"]


def _command() -> list[str]:
    if not sys.executable:
        raise DqError("cannot start a task process: sys.executable does not name the interpreter")
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    # In place of the current directory, where a user's queue.py would hide the real one.
    # Nothing that is imported becomes garbage: looking for some takes 2 ms of 30.
    setup = f"import gc, sys; gc.disable(); sys.path[0] = {home!r}"
    code = f"{setup}; import dq.worker.main as main; main.main()"
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as spawn does
    return [sys.executable, *flags, "-c", code]


def _usable(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
