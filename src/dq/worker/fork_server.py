"""A process that forks task processes, so that each starts with everything imported.

    supervisor ── socket: environment, descriptors ──▶ fork server, one thread
        ▲                                                  │ fork
        └──── a pipe for each: its pid, its exit status ───┴──▶ task processes

It is the idea of the standard library's `forkserver`. This one also tells the exit status of each
process, gives each its own environment and standard error, and ends with its supervisor.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import multiprocessing.connection as mpc
import os
import pickle
import signal
import socket
import sys
import threading

from dq._support import platform
from dq._support.frozen import TYPE_CHECKING
from dq.worker import imports
from dq.worker import main as task_process
from dq.worker.fork_messages import LENGTH, PID, STATUS, ForkRequest, Preload

if TYPE_CHECKING:
    from typing import NoReturn

RECV_BYTES = 64 * 1024
REAP_INTERVAL_S = 1.0  # in case a signal is missed: a preloaded module may handle it, too
MOST_DESCRIPTORS = 4  # that come with a request


def main(parent: int) -> NoReturn:
    """Serve the supervisor at the other end of standard input until it closes that.

    Args:
        parent: pid of the supervisor's process.
    """
    platform.fill_standard_descriptors()
    _close_all_inherited()
    with platform.HighDescriptors():
        sock = socket.socket(fileno=os.dup(0))
    with open(os.devnull, "rb") as devnull:
        os.dup2(devnull.fileno(), 0)
    os.dup2(2, 1)  # so that who reads the results does not wait for this process to end
    platform.name_process("dq-fork-server")
    platform.die_with_parent(parent)
    server = os.getpid()
    request, descriptors = _Server(sock).serve()
    _begin(request, descriptors)
    task_process.main(server, descriptors[1])


def _close_all_inherited() -> None:
    """Close what the program's own parent has left open: a task must not keep a shell's lock."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):  # the listing's own
                os.close(int(name))


class _Server:
    """Forks and reaps. `serve` returns in each new process, with what it is to be."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._pipes: dict[int, int] = {}  # the pipe of each process, by its pid
        with platform.HighDescriptors():
            self._woken, self._wake = os.pipe()  # written to when a process has ended
        for end in (self._woken, self._wake):
            os.set_blocking(end, False)
        self._watch_processes()

    def _watch_processes(self) -> None:
        """Have the pipe written to when a process has ended, whatever was preloaded."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def serve(self) -> tuple[ForkRequest, list[int]]:
        while True:
            ready = mpc.wait([self._sock, self._woken], REAP_INTERVAL_S)
            with contextlib.suppress(BlockingIOError):
                os.read(self._woken, RECV_BYTES)
            self._reap()
            if self._sock in ready:
                request, descriptors = self._receive()
                if isinstance(request, Preload):
                    answer = _import_all(request)
                    self._watch_processes()
                    self._sock.sendall(answer.encode(errors="replace") + b"\n")
                elif self._fork(descriptors):
                    return request, descriptors

    def _receive(self) -> tuple[ForkRequest | Preload, list[int]]:
        """The next request. Leaves if there will be none."""
        try:
            # The kernel ends this at the next descriptors, so it reads nothing of another request.
            more, descriptors, _, _ = socket.recv_fds(self._sock, RECV_BYTES, MOST_DESCRIPTORS)
            data = more
            while more and (left := _missing(data)):
                more = self._sock.recv(min(left, RECV_BYTES))
                data += more
        except ConnectionError:
            os._exit(0)
        if not more:
            os._exit(0)  # the supervisor has left; its task processes are killed by this
        return pickle.loads(data[LENGTH.size :]), descriptors

    def _fork(self, descriptors: list[int]) -> bool:
        """Fork, and return whether this is the new process."""
        gc.freeze()  # so that collections in the process do not copy these pages
        if len(descriptors) < 3:  # the kernel drops those for which there is no room here
            for descriptor in descriptors:
                os.close(descriptor)
            return False
        pipe = descriptors[2]
        try:
            pid = os.fork()
        except OSError as error:
            pid = -(error.errno or 1)
        if pid == 0:
            # A group of its own: Ctrl-C reaches only the supervisor, which lets tasks finish, and
            # whatever a task leaves behind can be killed with the group. The supervisor may kill
            # the group as soon as it knows the pid.
            os.setsid()
            _write(pipe, PID.pack(os.getpid()))
            self._close_in_child()
            return True
        if pid > 0:
            self._pipes[pid] = pipe
        else:
            _write(pipe, PID.pack(pid))
        for descriptor in descriptors:
            if descriptor != pipe or pid < 0:
                os.close(descriptor)
        return False

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                pipe = self._pipes.pop(pid, None)
                if pipe is not None:  # otherwise a preloaded module has started it
                    _write(pipe, STATUS.pack(status))
                    os.close(pipe)

    def _close_in_child(self) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._sock.close()
        for descriptor in (self._woken, self._wake, *self._pipes.values()):
            os.close(descriptor)


def _missing(data: bytes) -> int:
    """How many bytes a request lacks, as far as it says."""
    if len(data) < LENGTH.size:
        return LENGTH.size - len(data)
    return LENGTH.size + int(LENGTH.unpack_from(data)[0]) - len(data)


def _import_all(request: Preload) -> str:
    """Import modules; return why one cannot be imported, or ""."""
    sys.path[:] = request.path
    os.environ.update(request.environ)
    for name in request.modules:
        try:
            importlib.import_module(name)
        except BaseException as error:  # SystemExit too: the module's own code may raise it
            return f"{name}: {type(error).__name__}: {error}".replace("\n", " ")
    imports.note_preloaded()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()  # or each process would write what is in its buffer
    if threading.active_count() > 1:
        return f"{', '.join(request.modules)}: it starts a thread, which forks would not have"
    return ""


def _write(pipe: int, data: bytes) -> None:
    with contextlib.suppress(OSError):  # the supervisor does not want to know
        os.write(pipe, data)


def _begin(request: ForkRequest, descriptors: list[int]) -> None:
    """Give a new process what is its own."""
    stdin, _, pipe, *stderr = descriptors
    os.close(pipe)  # or the supervisor would never see it closed if the server is killed
    for descriptor, number in ((stdin, 0), *((each, 2) for each in stderr)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request.environ)
    with contextlib.suppress(OSError):
        os.chdir(request.directory or ".")
    if "numpy.random" in sys.modules:  # of a preloaded module
        sys.modules["numpy.random"].seed()  # or all processes would draw the same numbers
