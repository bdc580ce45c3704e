"""Starts task processes: fresh ones, with a pipe and shared memory. Their configuration comes
later.

This is apart from `dq.worker.supervisor`, so that a command can start them before it imports the
rest.
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

# Variables from which BLAS and similar libraries take their number of threads. If they are not set,
# each library starts one thread for each CPU, so N processes on N CPUs would have N * N threads.
THREAD_COUNTS = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
OMP_THREADS = "OMP_NUM_THREADS"  # which most of these libraries read, too
NUMBER = "DQ_SLOT"  # environment variable with a task process's number at its supervisor


def start_child(
    threads: int,
    number: int = 0,
    sharing: int = 1,
    seed: int | None = None,
    stderr: Callable[[], int] | None = None,
) -> Child:
    """Start a process that waits for its configuration on standard input.

    Args:
        threads: how many slots.
        number: its number at its supervisor.
        sharing: how many processes share the CPUs.
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
            # A group of its own: Ctrl-C reaches only the supervisor, which lets tasks finish, and
            # whatever a task leaves behind can be killed with the group.
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
    if OMP_THREADS not in environ:  # otherwise the user has set the number of threads
        threads = str(max(1, quantities.cpus() // max(sharing, 1)))
        environ[OMP_THREADS] = threads
        for name in THREAD_COUNTS:
            environ.setdefault(name, threads)
    return environ


def reject_nested() -> None:
    """Refuse to start task processes from within one. A program that runs from the start in its own
    task process, by mistake, would go on starting others.

    Raises:
        DqError: this is a task process.
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
    """A pipe with what `multiprocessing.freeze_support` reads: empty preparation data, and an
    object of dq. Unpickling the object imports dq, and that starts the task process."""
    read, write = os.pipe()
    with open(write, "wb") as pipe:
        pipe.write(pickle.dumps({}) + pickle.dumps(DqError))
    return read


def _frozen_command(pipe: int) -> list[str]:
    # `freeze_support` looks for these arguments, as multiprocessing passes them. If the program
    # imports dq first, that import already starts the task process. See `dq.__init__`.
    return [sys.executable, "--multiprocessing-fork", "tracker_fd=None", f"pipe_handle={pipe}"]


def _command() -> list[str]:
    if not sys.executable:
        raise DqError("cannot start a task process: sys.executable does not name the interpreter")
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    # This replaces the current directory, where a user's queue.py would hide the real one.
    # Imports leave no garbage, and looking for some would take 2 ms of 30.
    setup = f"import gc, sys; gc.disable(); sys.path[0] = {home!r}"
    code = f"{setup}; import dq.worker.main as main; main.main()"
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # like multiprocessing
    return [sys.executable, *flags, "-c", code]


def _usable(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
