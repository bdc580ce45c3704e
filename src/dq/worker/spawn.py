"""Starts task processes, each with a pipe and shared memory. Their configuration comes later.

This is apart from `dq.worker.supervisor`, so that a command can start them before it imports the
rest.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator

from dq._support import platform, quantities
from dq._support.hash_seed import hash_seed
from dq.errors import DqError
from dq.worker import cells
from dq.worker.child import Child
from dq.worker.fork_client import ForkedProcess, ForkServer, ServerDied
from dq.worker.fork_messages import ForkRequest
from dq.worker.lifeline import MARK
from dq.worker.server_start import (
    Started,
    code,
    environment,
    has_server,
    is_frozen,
    start_server,
    take_early,
)

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


class Spawner:
    """Starts task processes. A fork server makes them if the system can fork; otherwise each is a
    fresh interpreter.

    Args:
        preload: modules that the fork server imports, once for all processes.
        sharing: how many processes share the CPUs, for those modules.
    """

    def __init__(self, preload: Iterable[str] = (), sharing: int = 1) -> None:
        self._preload = tuple(preload)
        self._sharing = sharing
        self._server: ForkServer | None = None
        if (started := take_early()) is not None:
            self._use(started)

    def start(
        self,
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
            BadTask: a module cannot be preloaded.
        """
        reject_nested()
        seed = hash_seed() if seed is None else seed
        environ = _environment(number, sharing, seed)
        with contextlib.ExitStack() as stack, no_room():
            errors = None if stderr is None else stderr()
            if errors is not None:
                stack.callback(os.close, errors)
            memory = cells.shared(threads)
            cleanup = stack.enter_context(contextlib.ExitStack())
            cleanup.callback(memory.close)
            process: ForkedProcess | subprocess.Popen[bytes]
            if has_server():
                process = self._fork(environ, seed, memory.fd, errors)
            else:
                process = _start_fresh(environ, memory.fd, errors)
            cleanup.pop_all()
            return Child(process, memory, number)

    def _fork(
        self, environ: dict[str, str], seed: int, cells_fd: int, stderr: int | None
    ) -> ForkedProcess:
        request = ForkRequest(environ, _directory())
        try:
            return self._started(seed).fork(request, cells_fd, stderr)
        except ServerDied:  # somebody has killed it
            self.close()
            return self._started(seed).fork(request, cells_fd, stderr)

    def _started(self, seed: int) -> ForkServer:
        if self._server is not None and self._server.seed != seed:
            self.close()
        if self._server is None:
            self._use(start_server(seed, _flags()))
        assert self._server is not None
        return self._server

    def _use(self, started: Started) -> None:
        self._server = ForkServer(started)
        if self._preload:
            environ = _environment(0, self._sharing, self._server.seed)
            self._server.preload(self._preload, environ)

    def interrupt(self) -> None:
        """Stop waiting for what is preloaded, from another thread."""
        if (server := self._server) is not None:
            server.interrupt()

    def kill(self) -> None:
        """Stop waiting for the fork server at all, from another thread: it may be stopped."""
        if (server := self._server) is not None:
            server.kill()

    def close(self) -> None:
        """End the fork server, and with it the processes that it has made."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def after_fork(self) -> None:
        """In a fork of this process: close the socket of the fork server."""
        if self._server is not None:
            self._server.after_fork()
            self._server = None


@contextlib.contextmanager
def no_room() -> Iterator[None]:
    """Have what the system has no room for, such as a descriptor, end as a `DqError`."""
    try:
        yield
    except OSError as error:
        raise DqError(f"cannot start a task process: {error.strerror}") from None


def _directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it has been deleted
        return ""


def _start_fresh(
    environ: dict[str, str], cells_fd: int, stderr: int | None
) -> subprocess.Popen[bytes]:
    """Start a task process as a fresh interpreter."""
    pipe = _pipe_to_frozen() if is_frozen() else None
    try:
        return subprocess.Popen(
            _command() if pipe is None else _frozen_command(pipe),
            stdin=subprocess.PIPE,
            stdout=None if platform.is_open(1) else subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=(cells_fd,) if pipe is None else (cells_fd, pipe),
            env=environ,
            # A group of its own: Ctrl-C reaches only the supervisor, which lets tasks finish, and
            # whatever a task leaves behind can be killed with the group.
            start_new_session=True,
        )
    finally:
        if pipe is not None:
            os.close(pipe)


def _environment(number: int, sharing: int, seed: int) -> dict[str, str]:
    environ = {**environment(seed), NUMBER: str(number)}
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
    return [sys.executable, *_flags(), "-c", code("import dq.worker.main as main; main.main()")]


def _flags() -> list[str]:
    """This interpreter's options, for another one, as multiprocessing passes them on."""
    if not sys.executable:
        raise DqError("cannot start a task process: sys.executable does not name the interpreter")
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return flags
