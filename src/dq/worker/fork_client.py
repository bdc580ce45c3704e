"""The fork server as its supervisor sees it, and the task processes that it has made."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import sys
import threading

from dq._support import platform
from dq.errors import BadTask, DqError
from dq.worker.fork_messages import LENGTH, PID, STATUS, ForkRequest, Preload
from dq.worker.server_start import Started

_SERVER_DIED = -(1 << 20)  # in place of a pid; no error has this number


class ServerDied(DqError):
    """Raised when a fork server has died before it made a process."""

    def __init__(self, text: str = "the process that starts task processes has died") -> None:
        super().__init__(text)


class ForkServer:
    """A fork server.

    Args:
        started: what `start_server` has returned.
    """

    def __init__(self, started: Started) -> None:
        self._pid, sock, self.seed = started
        self._sock = platform.moved_up(socket.socket(fileno=sock))
        self._is_preloading = False

    def preload(self, modules: tuple[str, ...], environ: dict[str, str]) -> None:
        """Begin to import modules, for all processes, in this environment."""
        self._is_preloading = True
        with contextlib.suppress(ConnectionError):  # `fork` will find that out, too
            self._send(Preload(modules, tuple(sys.path), environ), [])

    def _await_preload(self) -> None:
        try:
            with self._sock.makefile("r", errors="replace") as file:
                complaint = file.readline()
        except ConnectionError:  # it has died before it has read the request
            raise ServerDied from None
        finally:
            self._is_preloading = False
        if not complaint:
            raise BadTask("what was to be preloaded has ended the process that imported it")
        if complaint.strip():
            raise BadTask(f"cannot preload {complaint.strip()}")

    def _send(self, message: object, descriptors: list[int]) -> None:
        data = pickle.dumps(message)
        data = LENGTH.pack(len(data)) + data
        sent = socket.send_fds(self._sock, [data], descriptors)
        self._sock.sendall(data[sent:])

    def fork(self, request: ForkRequest, cells: int, stderr: int | None) -> ForkedProcess:
        """Have a process made. Its pid is known later.

        Args:
            request: what it is to be.
            cells: the descriptor of its cells.
            stderr: its standard error; None for the server's.

        Raises:
            ServerDied: the server has died.
            BadTask: a module cannot be preloaded.
            OSError: the system has no room for it.
        """
        if self._is_preloading:
            self._await_preload()
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            read_stdin, stdin = _pipe(theirs, ours)
            pipe, status = _pipe(ours, theirs)
            passed = [read_stdin, cells, status, *([] if stderr is None else [stderr])]
            try:
                self._send(request, passed)
            except ConnectionError:
                raise ServerDied from None
            ours.pop_all()
            return ForkedProcess(pipe, stdin)

    def close(self) -> None:
        """End the server. Processes that it has made end with it."""
        self._sock.close()
        self.kill()
        with contextlib.suppress(OSError):  # somebody else has waited for it
            os.waitpid(self._pid, 0)

    def interrupt(self) -> None:
        """End the server if it is still importing, from another thread."""
        if self._is_preloading:
            self.kill()

    def kill(self) -> None:
        """Kill the server, from any thread."""
        with contextlib.suppress(OSError):  # it has ended
            os.kill(self._pid, signal.SIGKILL)

    def after_fork(self) -> None:
        """In a fork of the supervisor's process: close the socket."""
        self._sock.close()


def _pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
    """A pipe, whose ends each of the two closes."""
    read, write = os.pipe()
    reader.callback(os.close, read)
    writer.callback(os.close, write)
    return read, write


class ForkedProcess:
    """A task process that a fork server makes; with what a supervisor uses of `subprocess.Popen`.

    Args:
        pipe: tells its pid and its status.
        stdin: its standard input.
    """

    def __init__(self, pipe: int, stdin: int) -> None:
        self.stdin = open(stdin, "wb", buffering=0)  # noqa: SIM115  # closed by its `Child`
        self.returncode: int | None = None
        self._pipe = open(pipe, "rb", buffering=0)  # noqa: SIM115  # closed in `wait`
        # Each guards reading from the pipe: first its pid, then its status. The second is held as
        # long as the process lives, and a thread that wants the pid must not wait for that.
        self._pid_lock = threading.Lock()
        self._status_lock = threading.Lock()
        self._pid = 0

    @property
    def pid(self) -> int:
        """Its pid. This waits until the server has started.

        Raises:
            ServerDied: the server has died before.
            DqError: the system has no room for the process.
        """
        if not self._pid:
            with self._pid_lock:
                self._pid = self._pid or self._read_pid()
        if self._pid == _SERVER_DIED:
            raise ServerDied
        if self._pid < 0:
            raise DqError(f"cannot start a task process: {os.strerror(-self._pid)}")
        return self._pid

    def _read_pid(self) -> int:
        data = self._pipe.read(PID.size) or b""
        return int(PID.unpack(data)[0]) if len(data) == PID.size else _SERVER_DIED

    def wait(self) -> int:
        """Wait for its end; return its exit code as `subprocess` has it."""
        with contextlib.suppress(DqError):
            _ = self.pid
        with self._status_lock:
            if self.returncode is None:
                self.returncode = self._read_status()
                self._pipe.close()
        return self.returncode

    def _read_status(self) -> int:
        data = self._pipe.read(STATUS.size) or b""
        if len(data) < STATUS.size:  # the server was killed, and its processes with it
            return -signal.SIGKILL
        return os.waitstatus_to_exitcode(STATUS.unpack(data)[0])
