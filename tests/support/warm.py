"""`dq` from a process that has imported it already: an interpreter and its imports are most of
what a short command takes.

For tests of what a command does once it is there: what it takes, calls, prints and ends with. What
is about its start, or an interpreter's environment, uses `support.dq`.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from support import process
from support.process import DQ, Collector, Env, StrPath
from support.procfs import HAS_PROC, family

SERVER = Path(__file__).parent / "warm_server.py"
#: Variables that an interpreter reads when it starts. If one of them differs, a command has an
#: interpreter of its own.
FOR_INTERPRETERS = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_")


class _Server:
    """Forks commands until its end of the socket is closed, which is when this process ends."""

    def __init__(self) -> None:
        variables = process.environment()
        self.environment = _of_interpreter(variables)
        self._requests, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, SERVER, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=variables,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def start(self, request: dict[str, object], files: Sequence[int]) -> None:
        with tempfile.TemporaryFile() as file:  # since it may be longer than a message
            file.write(json.dumps(request).encode())
            file.flush()
            socket.send_fds(self._requests, [b"."], [file.fileno(), *files])


def _of_interpreter(variables: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in variables.items() if k.startswith(FOR_INTERPRETERS)}


_server = functools.cache(_Server)


def pid() -> int | None:
    """The server's, if there is one: it lives as long as this process."""
    return _server().process.pid if _server.cache_info().currsize else None


class _Command:
    """One command: its three pipes, and what the server says of it."""

    def __init__(self, args: list[str], env: dict[str, str], cwd: str, input: str | None) -> None:
        stdin, writer = (os.open(os.devnull, os.O_RDONLY), None) if input is None else os.pipe()
        (read_out, out), (read_err, err), (said, answers) = (os.pipe() for _ in range(3))
        _server().start({"args": args, "env": env, "cwd": cwd}, (stdin, out, err, answers))
        for descriptor in (stdin, out, err, answers):
            os.close(descriptor)
        changed = threading.Condition()
        self.pid = _number(said)
        self.out = Collector(os.fdopen(read_out, "rb"), changed)
        self.err = Collector(os.fdopen(read_err, "rb"), changed)
        self._code = Collector(os.fdopen(said, "rb"), changed)
        if writer is not None:
            # Beside it: a command may print more than a pipe holds before it reads on.
            threading.Thread(target=_write, args=(writer, input), daemon=True).start()

    def wait(self, timeout: float) -> int | None:
        """Its exit code, once all that it printed is there."""
        deadline = time.monotonic() + timeout
        parts = (self._code, self.out, self.err)
        for part in parts:
            part.join(max(0, deadline - time.monotonic()))
        return int(self._code.text) if all(part.ended for part in parts) else None

    def kill(self) -> None:
        """It and what it has started."""
        for pid in family(self.pid, {self.pid}) if HAS_PROC else [self.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def _number(descriptor: int) -> int:
    """One line of it, and no more."""
    digits = b""
    while (byte := os.read(descriptor, 1)) not in (b"\n", b""):
        digits += byte
    return int(digits)


def _write(descriptor: int, text: str) -> None:
    try:
        with os.fdopen(descriptor, "wb") as pipe:
            pipe.write(text.encode())
    except BrokenPipeError:
        pass


def dq(
    *args: StrPath,
    input: str | None = None,
    env: Env | None = None,
    cwd: StrPath | None = None,
    timeout: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run `dq ARGS` to its end; as `support.dq`."""
    variables = process.environment(env)
    if _of_interpreter(variables) != _server().environment:
        return process.dq(*args, input=input, env=env, cwd=cwd, timeout=timeout)
    words = [os.fspath(arg) for arg in args]
    command = _Command(words, variables, os.fspath(cwd or os.getcwd()), input)
    try:
        code = command.wait(timeout)
        if code is None:
            command.kill()
            command.wait(10)
            said = f"{command.out.text}\n{command.err.text}"
            raise AssertionError(f"still running after {timeout:g} s: {words}\n{said}")
    except BaseException:
        command.kill()
        raise
    return subprocess.CompletedProcess([*DQ, *words], code, command.out.text, command.err.text)
