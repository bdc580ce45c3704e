"""Starting task processes: fresh ones, with a pipe and shared memory, and given later what to do.

Apart from `dq.worker.supervisor`, so that a command can start them before it imports all the rest.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable

from dq._support import platform, quantities
from dq._support.hash_seed import HASH_SEED, hash_seed
from dq.errors import DqError
from dq.security import keys
from dq.worker import cells
from dq.worker.child import Child
from dq.worker.lifeline import MARK

# What BLAS libraries and others of that kind take the number of their threads from. Each starts one
# for each CPU where nothing is set: N processes on N CPUs would have N times N.
THREAD_COUNTS = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
OMP_THREADS = "OMP_NUM_THREADS"  # which most of those go by, too
NUMBER = "DQ_SLOT"  # variable of a task process: which of its supervisor's it is


def start_child(
    threads: int,
    number: int = 0,
    sharing: int = 1,
    seed: int | None = None,
    stderr: Callable[[], int] | None = None,
) -> Child:
    """Start a process for so many slots, which waits for the rest on its standard input.

    Args:
        threads: how many slots.
        number: which of its supervisor's processes it is.
        sharing: how many processes the CPUs are for.
        seed: of its hashes; None for this process's.
        stderr: makes a descriptor for its standard error; None for this process's.

    Raises:
        DqError: the system has no room for it.
    """
    reject_nested()
    memory, pipe, errors = None, None, None
    try:
        errors = None if stderr is None else stderr()
        memory = platform.shared_cells(cells.count(threads))
        if is_frozen():
            pipe = _pipe_to_frozen()
        popen = subprocess.Popen(
            _command() if pipe is None else _frozen_command(pipe),
            stdin=subprocess.PIPE,
            stdout=None if _usable(1) else subprocess.DEVNULL,
            stderr=errors,
            pass_fds=(memory.fd,) if pipe is None else (memory.fd, pipe),
            env=_environment(number, sharing, hash_seed() if seed is None else seed),
            # Out of the terminal's group: Ctrl-C is for the supervisor, which lets tasks
            # finish; and whatever a task leaves behind can be ended with it.
            start_new_session=True,
        )
    except OSError as error:
        if memory is not None:
            memory.close()
        raise DqError(f"cannot start a task process: {error.strerror}") from None
    finally:
        for descriptor in (pipe, errors):
            if descriptor is not None:
                os.close(descriptor)
    return Child(popen, memory, number)


def _environment(number: int, sharing: int, seed: int) -> dict[str, str]:
    environ = keys.scrub(os.environ)
    environ[MARK] = "1"
    environ[NUMBER] = str(number)
    environ[HASH_SEED] = str(seed)
    if OMP_THREADS not in environ:  # else the user has said how many, for those that go by it too
        threads = str(max(1, quantities.cpus() // max(sharing, 1)))
        environ[OMP_THREADS] = threads
        for name in THREAD_COUNTS:
            environ.setdefault(name, threads)
    return environ


def reject_nested() -> None:
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
