"""The fork server as its supervisor sees it, and the task processes that it has made."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import signal
import socket
import subprocess
import threading

from dq._support import platform
from dq.errors import DqError
from dq.worker.fork_messages import LENGTH, PID, STATUS, ForkRequest


class ForkServer:
    """A fork server.

    Args:
        command: starts it; its standard input is the socket for requests.
        environ: its environment.
        seed: of its hashes, and so of all its processes'.

    Raises:
        OSError: the system has no room for it.
    """

    def __init__(self, command: list[str], environ: dict[str, str], seed: int) -> None:
        self.seed = seed
        with platform.HighDescriptors():
            self._sock, theirs = socket.socketpair()
        with theirs:
            self._popen = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=None if platform.is_open(1) else subprocess.DEVNULL,
                env=environ,
                start_new_session=True,
            )

    def fork(self, request: ForkRequest, cells: int, stderr: int | None) -> ForkedProcess:
        """Have a process made. Its pid is known later.

        Args:
            request: what it is to be.
            cells: the descriptor of its cells.
            stderr: its standard error; None for the server's.

        Raises:
            OSError: the server has died, or the system has no room.
        """
        data = pickle.dumps(request)
        data = LENGTH.pack(len(data)) + data
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            read_stdin, stdin = _pipe(theirs, ours)
            pipe, status = _pipe(ours, theirs)
            passed = [read_stdin, cells, status, *([] if stderr is None else [stderr])]
            sent = socket.send_fds(self._sock, [data], passed)
            self._sock.sendall(data[sent:])
            ours.pop_all()
            return ForkedProcess(pipe, stdin)

    def close(self) -> None:
        """End the server. Processes that it has made end with it."""
        self._sock.close()
        self._popen.wait()

    def after_fork(self) -> None:
        """In a fork of the supervisor's process: close the socket."""
        self._sock.close()
        self._popen.returncode = 0  # only the original can wait for it


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
        self._lock = threading.Lock()  # guards reading from the pipe
        self._pid = 0

    @property
    def pid(self) -> int:
        """Its pid. This waits until the server has started.

        Raises:
            DqError: the system has no room for the process, or the server has died.
        """
        if not self._pid:
            with self._lock:
                self._pid = self._pid or self._read_pid()
        if self._pid < 0:
            raise DqError(f"cannot start a task process: {os.strerror(-self._pid)}")
        return self._pid

    def _read_pid(self) -> int:
        data = self._pipe.read(PID.size) or b""
        return int(PID.unpack(data)[0]) if len(data) == PID.size else -errno.ECHILD

    def wait(self) -> int:
        """Wait for its end; return its exit code as `subprocess` has it."""
        with contextlib.suppress(DqError):
            _ = self.pid
        with self._lock:
            if self.returncode is None:
                self.returncode = self._read_status()
                self._pipe.close()
        return self.returncode

    def _read_status(self) -> int:
        data = self._pipe.read(STATUS.size) or b""
        if len(data) < STATUS.size:  # the server was killed, and its processes with it
            return -signal.SIGKILL
        return os.waitstatus_to_exitcode(STATUS.unpack(data)[0])
