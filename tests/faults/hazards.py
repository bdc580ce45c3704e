"""Tasks that do what tasks should not; the `hazards` fixture copies this file into a project.

Each writes its execution down first, as `history` expects, and most misbehave only where their
input says so: all others are bystanders, who must not suffer.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any


def witness(x: Any) -> dict[str, Any]:
    """Append one line, in one write: those of many processes stay whole."""
    entry = {"input": x, "pid": os.getpid(), "token": secrets.token_hex(8)}
    fd = os.open(os.environ["DQ_TEST_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, json.dumps(entry).encode() + b"\n")
    finally:
        os.close(fd)
    return {"input": x, "token": entry["token"]}


def short(x: Any) -> Any:
    value = witness(x)
    time.sleep(0.002)
    return value


def long(x: Any) -> Any:
    value = witness(x)
    time.sleep(0.15)
    return value


def gated(x: Any) -> Any:
    """Runs until the file DQ_TEST_GATE is there."""
    value = witness(x)
    while not os.path.exists(os.environ["DQ_TEST_GATE"]):
        time.sleep(0.005)
    return value


# Ends of a process


def by_sigkill(x: Any) -> Any:
    return _unless(x, lambda: os.kill(os.getpid(), signal.SIGKILL))


def brief(x: Any) -> Any:
    """So short that it is not announced by itself; writes down only what is deadly."""
    if x == 150_000:
        witness(x)
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def by_abort(x: Any) -> Any:
    return _unless(x, os.abort)


def by_exit_0(x: Any) -> Any:
    return _unless(x, lambda: os._exit(0))


def by_exit_10(x: Any) -> Any:
    return _unless(x, lambda: os._exit(10))


def by_exit_12(x: Any) -> Any:
    return _unless(x, lambda: os._exit(12))


def by_segfault(x: Any) -> Any:
    return _unless(x, lambda: ctypes.string_at(0))


def _unless(x: Any, harm: Callable[[], object]) -> Any:
    value = witness(x)
    if x == "bad":
        harm()
    return value


# Tasks that do not end


def never(x: Any) -> Any:
    return _unless(x, lambda: time.sleep(1000))


def never_in_c(x: Any) -> Any:
    """A call through PyDLL keeps the interpreter's lock: no other thread runs."""
    return _unless(x, lambda: ctypes.PyDLL(None).sleep(1000))


def never_in_regex(x: Any) -> Any:
    return _unless(x, lambda: re.match(r"(a+)+$", "a" * 100 + "b"))


def hog(x: Any) -> Any:
    def grow() -> None:
        kept = []
        while True:
            kept.append(b"x" * 2**20)
            time.sleep(0.001)

    return _unless(x, grow)


# Exceptions


class TwoArguments(Exception):
    """Can't be unpickled: pickle calls the class with `args`."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


class NoStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no str")

    __repr__ = __str__


class ExitingStr(Exception):
    def __str__(self) -> str:
        sys.exit(3)

    __repr__ = __str__


class NoInit(Exception):
    def __init__(self) -> None:
        raise LookupError("no init")


class NoReduce(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("no reduce")


def raises_two_arguments(x: Any) -> Any:
    return _unless(x, lambda: _raise(TwoArguments("one", "two")))


def raises_no_str(x: Any) -> Any:
    return _unless(x, lambda: _raise(NoStr()))


def raises_exiting_str(x: Any) -> Any:
    return _unless(x, lambda: _raise(ExitingStr()))


def raises_no_init(x: Any) -> Any:
    return _unless(x, lambda: _raise(NoInit()))


def raises_no_reduce(x: Any) -> Any:
    return _unless(x, lambda: _raise(NoReduce("plain")))


def raises_system_exit(x: Any) -> Any:
    return _unless(x, lambda: _raise(SystemExit("enough")))


def raises_keyboard_interrupt(x: Any) -> Any:
    return _unless(x, lambda: _raise(KeyboardInterrupt()))


def exits_0(x: Any) -> Any:
    return _unless(x, lambda: sys.exit(0))


def interrupts_itself(x: Any) -> Any:
    return _unless(x, lambda: os.kill(os.getpid(), signal.SIGINT))


def _raise(error: BaseException) -> None:
    raise error


# Marks left on the process


def prints(x: Any) -> Any:
    print(f"printed by {x}")
    os.system(f"echo echoed by {x}")
    return witness(x)


def leaves_thread(x: Any) -> Any:
    return _unless(x, lambda: threading.Thread(target=time.sleep, args=(1000,)).start())


def leaves_child(x: Any) -> Any:
    value = witness(x)
    value["child"] = subprocess.Popen(["sleep", "1000"]).pid
    return value


def leaves_child_or_waits(x: Any) -> Any:
    return gated(x) if x == "gated" else leaves_child(x)


def closes_all(x: Any) -> Any:
    return _unless(x, lambda: os.closerange(0, 1024))


def closes_high(x: Any) -> Any:
    return _unless(x, lambda: os.closerange(3, 1024))


def closes_pipes(x: Any) -> Any:
    """As a task that means to daemonize does, one by one, from the other end."""
    return _unless(x, lambda: [_close(fd) for fd in reversed(range(3, 64))])


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        pass


def changes_folder(x: Any) -> Any:
    return _unless(x, lambda: os.chdir("/"))


def closes_stdout(x: Any) -> Any:
    return _unless(x, lambda: (sys.stdout.close(), sys.stderr.close()))


def replaces_stdout(x: Any) -> Any:
    return _unless(x, lambda: setattr(sys, "stdout", None))


def changes_recursion_limit(x: Any) -> Any:
    return _unless(x, lambda: sys.setrecursionlimit(1_000_000))


def ignores_signals(x: Any) -> Any:
    def ignore() -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    return _unless(x, ignore)


def forks_and_returns(x: Any) -> Any:
    """Goes on in two processes, each of which returns."""
    return _unless(x, os.fork)


def forks_and_exits(x: Any) -> Any:
    """As people write it: the child leaves by SystemExit, and its parent looks at the code."""

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            sys.exit(7)
        _, status = os.waitpid(pid, 0)
        if os.waitstatus_to_exitcode(status) != 7:
            raise RuntimeError(f"the child ended with {status}")

    return _unless(x, fork)


# For the Python interface


class Unpicklable:
    def __reduce__(self) -> Any:
        raise TypeError("not this one")


class Ununpicklable:
    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise LookupError("not here")


def gives_unpicklable(x: Any) -> Any:
    return Unpicklable() if x == "bad" else x


def gives_lambda(x: Any) -> Any:
    return (lambda: x) if x == "bad" else x


def gives_ununpicklable(x: Any) -> Any:
    return Ununpicklable() if x == "bad" else x


def raises_ununpicklable(x: Any) -> Any:
    if x == "bad":
        raise TwoArguments("one", "two")
    return x


def same(x: Any) -> Any:
    return x
