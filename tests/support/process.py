"""Runs real commands for tests: to their end, or in the background, and never past the test."""

from __future__ import annotations

import atexit
import codecs
import functools
import glob
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from support.closing import Closing
from support.procfs import HAS_PROC, family, states

#: The repository's top folder.
ROOT = Path(__file__).resolve().parents[2]
#: What `dq` stands for on a command line.
DQ = (sys.executable, "-m", "dq")

SERVING = re.compile(r"^dq: serving on (?P<host>\S+):(?P<port>\d+)", re.MULTILINE)
VERSIONS = range(8, 15)  # CPython 3.8 to 3.14

Env = Mapping[str, str | None]
StrPath = str | os.PathLike[str]


def wait_until(
    predicate: Callable[[], object],
    timeout: float = 30,
    interval: float = 0.01,
    message: str | Callable[[], str] = "",
) -> Any:
    """Poll until `predicate` returns something true, and return that; AssertionError if it doesn't.

    `message` says what was waited for; a callable is asked once it has not come.
    """
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        if time.monotonic() > deadline:
            said = message() if callable(message) else message
            raise AssertionError(f"not within {timeout:g} s: {said or predicate}")
        time.sleep(interval)
    return value


@functools.cache
def _empty_folder() -> str:
    folder = tempfile.mkdtemp(prefix="dq-no-config-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def environment(extra: Env | None = None) -> dict[str, str]:
    """This process's environment without the developer's own dq settings and key file.

    `extra` goes on top; None in it takes a variable away.
    """
    env: dict[str, str | None] = {k: v for k, v in os.environ.items() if not k.startswith("DQ_")}
    env["XDG_CONFIG_HOME"] = _empty_folder()
    if paths := os.environ.get("PYTHONPATH"):  # commands run in other folders than we do
        env["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, paths.split(os.pathsep)))
    return {k: v for k, v in {**env, **(extra or {})}.items() if v is not None}


def kill_family(process: subprocess.Popen[Any], timeout: float = 10) -> None:
    """SIGKILL a command started with `start_new_session`, and whatever it started in turn."""
    known = {process.pid} if process.poll() is None else set()

    def signalled(sig: int) -> set[int]:
        members = family(process.pid, known)
        known.update(members)
        for pid in members:
            _kill(os.kill, pid, sig)
        return members

    # All stand still first: a supervisor replaces what is killed until its own turn comes, and
    # what has a session of its own can't be traced to a parent that is dead.
    stopped: set[int] = set()
    while not stopped >= (members := signalled(signal.SIGSTOP)):
        stopped |= members
    if not HAS_PROC:
        _kill(os.killpg, process.pid, signal.SIGKILL)
    wait_until(
        lambda: not signalled(signal.SIGKILL),
        timeout,
        message=lambda: f"killed, and still there: {known}",
    )
    process.wait(timeout)


def stop(pid: int) -> None:
    """Stop a process, and return once none of its threads runs: on a busy machine the others go on
    until the one that has got the signal has its turn."""
    os.kill(pid, signal.SIGSTOP)
    if HAS_PROC:
        wait_until(lambda: states(pid) <= {"T", "Z"})


def _kill(how: Callable[[int, int], None], pid: int, sig: int) -> None:
    try:
        how(pid, sig)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
        pass


def run(
    *argv: StrPath,
    input: str | None = None,
    env: Env | None = None,
    cwd: StrPath | None = None,
    timeout: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and capture what it prints; AssertionError if it takes longer.

    Without `input`, standard input is empty. What the command leaves behind is left to be found.
    """
    args = [os.fspath(arg) for arg in argv]
    with subprocess.Popen(
        args,
        stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="backslashreplace",
        env=environment(env),
        cwd=cwd,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(input, timeout)
        except subprocess.TimeoutExpired:
            kill_family(process)
            out, err = process.communicate(timeout=10)
            said = f"still running after {timeout:g} s: {args}\n{_both(out, err)}"
            raise AssertionError(said) from None
        except BaseException:
            kill_family(process)
            raise
    return subprocess.CompletedProcess(args, process.returncode, out, err)


def dq(*args: StrPath, **kw: Any) -> subprocess.CompletedProcess[str]:
    """Run `dq ARGS` to its end; keywords as for `run`."""
    return run(*DQ, *args, **kw)


def python(code: str, **kw: Any) -> subprocess.CompletedProcess[str]:
    """Run a piece of Python to its end; keywords as for `run`."""
    return run(sys.executable, "-c", code, **kw)


def script(path: StrPath, *args: StrPath, **kw: Any) -> subprocess.CompletedProcess[str]:
    """Run a Python script to its end; keywords as for `run`."""
    return run(sys.executable, path, *args, **kw)


class Collector:
    """Reads a pipe to its end in a thread of its own, and keeps the text."""

    def __init__(self, pipe: IO[bytes], changed: threading.Condition) -> None:
        self.ended = False
        self._parts: list[str] = []
        self._pipe, self._changed = pipe, changed
        self._thread = threading.Thread(target=self._read, name="collector", daemon=True)
        self._thread.start()

    @property
    def text(self) -> str:
        # Put together when it is asked for: each time that some comes takes seconds, of megabytes.
        with self._changed:
            self._parts[:] = ["".join(self._parts)]
            return self._parts[0]

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        with self._pipe:
            while data := os.read(self._pipe.fileno(), 1 << 16):
                with self._changed:
                    self._parts.append(decoder.decode(data))
                    self._changed.notify_all()
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)


class Running(Closing):
    """A command in the background, in a session of its own, killed with all it started on exit.

    >>> with Running(sys.executable, "-c", "print('up'); input()", stdin=subprocess.PIPE) as it:
    ...     it.wait_for("up", stream="stdout").group()
    'up'

    Takes the whole argument list (`Running(*DQ, "worker", …)`). Standard input is empty unless
    `stdin=subprocess.PIPE` is given; `write` and `close_stdin` then feed it.
    """

    def __init__(
        self,
        *argv: StrPath,
        env: Env | None = None,
        cwd: StrPath | None = None,
        stdin: int | IO[Any] = subprocess.DEVNULL,
    ) -> None:
        self.argv = [os.fspath(arg) for arg in argv]
        self.process = subprocess.Popen(
            self.argv,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(env),
            cwd=cwd,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._changed = threading.Condition()
        self._streams = {
            "stdout": Collector(self.process.stdout, self._changed),
            "stderr": Collector(self.process.stderr, self._changed),
        }

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stdout_text(self) -> str:
        return self._streams["stdout"].text

    @property
    def stderr_text(self) -> str:
        return self._streams["stderr"].text

    @property
    def printed(self) -> str:
        """Both streams so far, for a message."""
        return f"{self.argv}: exit code {self.process.poll()}\n" + _both(
            self.stdout_text, self.stderr_text
        )

    def wait_for(
        self,
        pattern: str | re.Pattern[str],
        timeout: float = 30,
        stream: Literal["stdout", "stderr"] = "stderr",
    ) -> re.Match[str]:
        """Wait until `pattern` (MULTILINE) is in the lines that were printed, and return it.

        From the first line on; the last one counts once it is whole. AssertionError, with
        everything printed, if it isn't in time or the stream ends without it.
        """
        sought = re.compile(pattern, re.MULTILINE) if isinstance(pattern, str) else pattern
        source = self._streams[stream]

        def search() -> re.Match[str] | None:
            end = None if source.ended else source.text.rfind("\n") + 1
            return sought.search(source.text[:end])

        with self._changed:
            self._changed.wait_for(lambda: source.ended or search(), timeout)
            found = search()
            why = f"{stream} ended" if source.ended else f"{timeout:g} s went by"
        if found is None:
            raise AssertionError(f"{why} without {sought.pattern!r}\n{self.printed}")
        return found

    def write(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def close_stdin(self) -> None:
        if self.process.stdin is not None:
            try:
                self.process.stdin.close()
            except BrokenPipeError:  # what was not flushed has no reader any more
                pass

    def send_signal(self, sig: int) -> None:
        self.process.send_signal(sig)

    def signal_group(self, sig: int) -> None:
        """As a terminal does with SIGINT: to the whole process group."""
        _kill(os.killpg, self.pid, sig)

    def kill_group(self) -> None:
        self.signal_group(signal.SIGKILL)

    def wait(self, timeout: float = 30) -> int:
        """Wait for the command's end and return its exit code (-N: ended by signal N).

        What was printed is complete then, unless something it started still holds the pipes.
        """
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            said = f"still running after {timeout:g} s\n{self.printed}"
            raise AssertionError(said) from None
        for stream in self._streams.values():
            stream.join(1)
        return code

    def close(self) -> None:
        """Kill what is left of it."""
        kill_family(self.process)
        self.close_stdin()
        for stream in self._streams.values():
            stream.join(5)


def _both(out: str, err: str) -> str:
    return f"--- stdout\n{out}\n--- stderr\n{err}\n---"


def dq_with(constant: str, value: float) -> tuple[str, ...]:
    """What `dq` stands for where a constant is to be another: seconds that a test need not wait.

    `serving("app:square", dq=dq_with("dq.dispatch.roster.NO_WORKER_NOTICE_S", 0.5))`
    """
    module, _, name = constant.rpartition(".")
    code = f"import {module} as it; it.{name}; it.{name} = {value}"  # there has to be one
    return (sys.executable, "-c", f"{code}; from dq.__main__ import main; main()")


@contextmanager
def serving(
    *args: StrPath, timeout: float = 30, dq: Sequence[str] = DQ, **kw: Any
) -> Iterator[tuple[Running, int]]:
    """Run `dq master --port 0 ARGS`: itself, once it listens, and its port.

    `with serving("app:square", cwd=project, env={"DQ_AUTHKEY": key}) as (master, port): ...`
    """
    with Running(*dq, "master", "--port", "0", *args, **kw) as master:
        yield master, int(master.wait_for(SERVING, timeout)["port"])


def free_port() -> int:
    """A port below those that the system gives to outgoing connections."""
    while True:
        port = random.randint(10_000, 32_000)
        with socket.socket() as sock:
            try:
                sock.bind(("", port))
            except OSError:
                continue
        return port


@functools.cache
def other_pythons() -> tuple[str, ...]:
    """One interpreter for each other CPython from 3.8 to 3.14 that runs here, oldest first."""
    found = (_find_python(minor) for minor in VERSIONS if (3, minor) != sys.version_info[:2])
    return tuple(path for path in found if path is not None)


def _find_python(minor: int) -> str | None:
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    installed = os.path.join(glob.escape(pyenv), "versions", f"3.{minor}[.-]*", "bin", "python")
    for candidate in (*sorted(glob.glob(installed)), shutil.which(f"python3.{minor}")):
        if candidate is not None and (path := _identify(candidate, minor)) is not None:
            return path
    return None


def _identify(candidate: str, minor: int) -> str | None:
    """Its true path; a shim on PATH may stand for an interpreter that isn't there."""
    ask = (
        "import sys, multiprocessing.managers;"
        " print(sys.implementation.name, *sys.version_info[:2], sys.executable)"
    )
    try:
        said = run(candidate, "-c", ask, timeout=20).stdout.strip()
    except (OSError, AssertionError):
        return None
    return said.split(" ", 3)[3] if said.startswith(f"cpython 3 {minor} ") else None


def recipe() -> Path | None:
    """The folder with the standard library recipe's two scripts; None where it is absent."""
    folder = Path(os.environ.get("DQ_RECIPE") or ROOT.parent / "shared" / "recipe")
    scripts = (folder / "task_master.py", folder / "task_worker.py")
    return folder if all(path.is_file() for path in scripts) else None
