"""Tasks that do what tasks should not; the `hazards` fixture copies this file into a project.

Each writes its execution down first, as `history` expects, and most misbehave only where their
input says so: all others are bystanders, who must not suffer.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import io
import json
import os
import re
import resource
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import UserString
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


def gated_if_last(x: Any) -> Any:
    """`short`, but `gated` where x is "last": the run goes on until the gate is open."""
    return gated(x) if x == "last" else short(x)


def gated_and_large(x: Any) -> Any:
    """As `gated`, and returns 8 MiB."""
    return {**gated(x), "ballast": "x" * 2**23}


def gated_and_too_large_for_a_buffer(x: Any) -> Any:
    """As `gated`, and where x is 0 returns more than a connection holds that nobody reads from."""
    return {**gated(x), "ballast": "x" * (0 if x else 2**25)}


def gated_in_a_crowd(x: Any) -> Any:
    """As `gated`, among threads that leave the others little of the interpreter for a while."""
    ends = []

    def spin() -> None:
        while not ends or time.monotonic() < ends[0]:
            pass

    for _ in range(10):
        threading.Thread(target=spin, daemon=True).start()
    value = gated(x)
    ends.append(time.monotonic() + 0.5)
    return value


def tells_time(x: Any) -> Any:
    """What the wall clock says, in seconds; fails the first time that it has input 3."""
    value = witness(x)
    value["clock"] = time.time()
    time.sleep(0.05)
    if x == 3 and not os.path.exists(os.environ["DQ_TEST_GATE"]):
        with open(os.environ["DQ_TEST_GATE"], "w"):
            raise ValueError("not the first time")
    return value


def bulky(x: Any) -> Any:
    """Its result fills every buffer on its way."""
    value = witness(x)
    value["ballast"] = "x" * 8_000_000
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


def fails_beside_one_that_holds(x: Any) -> Any:
    """Does not end; "bad" fails once another one runs."""
    witness(x)
    if x != "bad":
        time.sleep(1000)
    with open(os.environ["DQ_TEST_LOG"]) as log:
        while '"held"' not in log.read():
            time.sleep(0.005)
    raise ValueError("bad")


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


def limit_memory() -> None:
    """For `--init`: as `ulimit -v` does, what is there now and 200 MB more."""
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = pages * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (now + 200 * 2**20, hard))


def enter_group() -> None:
    """For `--init`: into the control group that a test has made."""
    with open(os.path.join(os.environ["DQ_TEST_GROUP"], "cgroup.procs"), "w") as file:
        file.write(str(os.getpid()))


def takes_all_memory(x: Any) -> Any:
    """Until there is none, down to the last kilobyte, which the traceback then keeps."""

    def take() -> None:
        kept: list[Any] = []
        size = 2**26
        while True:
            try:
                kept.append(bytearray(size))
            except MemoryError:
                if size < 2**10:
                    raise
                size //= 2

    return _unless(x, take)


def takes_too_much(x: Any) -> Any:
    """In one go, more than there is anywhere."""
    return _unless(x, lambda: bytearray(2**60))


def gives_too_much(x: Any) -> Any:
    """There is room for the result, and none for a copy of it."""
    value = witness(x)
    return {**value, "ballast": "x" * (150 * 2**20)} if x == "bad" else value


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


def handles_signals(x: Any) -> Any:
    """For a program of its own: whatever comes raises."""

    def handle() -> None:
        for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGCHLD", "SIGALRM"):
            signal.signal(getattr(signal, name), _interrupted)
        signal.setitimer(signal.ITIMER_REAL, 60)

    return _unless(x, handle)


def _interrupted(number: int, frame: Any) -> None:
    raise InterruptedError(f"signal {number}")


def blocks_signals(x: Any) -> Any:
    return _unless(x, lambda: signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()))


def buries_children(x: Any) -> Any:
    """What it starts leaves no exit code: SIGCHLD is ignored from here on."""
    return _unless(x, lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))


def captures_stdout(x: Any) -> Any:
    """And never gives it back: what others print from here on goes into its own buffer."""

    def capture() -> None:
        sys.stdout = sys.stderr = io.StringIO()

    return _unless(x, capture)


def breaks_stdout(x: Any) -> Any:
    """With one that raises whatever it is asked for."""

    def replace() -> None:
        sys.stdout = sys.stderr = Raising()

    return _unless(x, replace)


class Raising:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


def lowers_recursion_limit(x: Any) -> Any:
    """As far as it goes from here: what is called from further down fails."""

    def lower() -> None:
        limit = 5
        while True:
            try:
                sys.setrecursionlimit(limit)
                return
            except RecursionError:
                limit += 1

    return _unless(x, lower)


def clears_environment(x: Any) -> Any:
    log = os.environ["DQ_TEST_LOG"]
    return _unless(x, lambda: (os.environ.clear(), os.environ.update(DQ_TEST_LOG=log)))


def shortens_socket_timeout(x: Any) -> Any:
    """For all that is connected from here on."""
    return _unless(x, lambda: socket.setdefaulttimeout(0.001))


def lowers_descriptor_limit(x: Any) -> Any:
    def lower() -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 2, hard))

    return _unless(x, lower)


def leaves_threads(x: Any) -> Any:
    """Non-daemon ones, one of which ends with an exception."""

    def leave() -> None:
        threading.Thread(target=time.sleep, args=(1000,)).start()
        threading.Thread(target=sys.exit, args=("enough",)).start()

    return _unless(x, leave)


def leaves_atexit(x: Any) -> Any:
    """A function that is called when the process ends, and does not return."""
    return _unless(x, lambda: atexit.register(time.sleep, 1000))


def leaves_loop(x: Any) -> Any:
    """An event loop that runs on in a thread, and is the thread's own here."""

    def leave() -> None:
        asyncio.set_event_loop(loop := asyncio.new_event_loop())
        threading.Thread(target=loop.run_forever, daemon=True).start()

    return _unless(x, leave)


def replaces_exit(x: Any) -> Any:
    return _unless(x, lambda: setattr(os, "_exit", sys.exit))


def daemonizes(x: Any) -> Any:
    """The right way: twice forked, in a session of its own; its parent goes on."""

    def daemonize() -> None:
        if os.fork():
            os.wait()
            return
        os.setsid()
        if os.fork():
            os._exit(0)
        with open(os.environ["DQ_TEST_GATE"], "w") as file:
            file.write(str(os.getpid()))
        os.closerange(0, 1024)
        time.sleep(1000)

    return _unless(x, daemonize)


def becomes_daemon(x: Any) -> Any:
    """As `daemon(3)` does: its parent exits, and the task goes on in the daemon."""

    def become() -> None:
        if os.fork():
            os._exit(0)
        os.setsid()
        os.chdir("/")

    return _unless(x, become)


def forks_many(x: Any) -> Any:
    """Goes on in eight processes, all of which return."""
    return _unless(x, lambda: [os.fork() for _ in range(3)])


def forks_and_fails(x: Any) -> Any:
    """The child comes out of the task with an exception, the parent with a value."""

    def fork() -> None:
        if os.fork() == 0:
            raise LookupError("in the child")

    return _unless(x, fork)


def forks_and_execs(x: Any) -> Any:
    def fork() -> None:
        if os.fork() == 0:
            os.execv("/bin/sleep", ["sleep", "1000"])

    return _unless(x, fork)


def execs(x: Any) -> Any:
    """Becomes another program, under the same process id."""
    return _unless(x, lambda: os.execv("/bin/true", ["true"]))


def execs_and_stays(x: Any) -> Any:
    return _unless(x, lambda: os.execv("/bin/sleep", ["sleep", "1000"]))


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


def gives_lock(x: Any) -> Any:
    return threading.Lock() if x == "bad" else x


def gives_ununpicklable(x: Any) -> Any:
    return Ununpicklable() if x == "bad" else x


def raises_ununpicklable(x: Any) -> Any:
    if x == "bad":
        raise TwoArguments("one", "two")
    return x


def same(x: Any) -> Any:
    return x


# Results and exceptions that do something when they are asked what they are


class Asked(UserString):
    """Does harm when it is shown, as an encoder has to."""

    def __init__(self, harm: Callable[[], object]) -> None:
        super().__init__("harmless")
        self._harm = harm

    def __str__(self) -> str:
        self._harm()
        return "harmless"


def _asked(x: Any, harm: Callable[[], object]) -> Any:
    value = witness(x)
    if x == "bad":
        value["asked"] = Asked(harm)
    return value


def result_kills(x: Any) -> Any:
    return _asked(x, lambda: os.kill(os.getpid(), signal.SIGKILL))


def result_hangs(x: Any) -> Any:
    return _asked(x, lambda: time.sleep(1e6))


def result_exits(x: Any) -> Any:
    return _asked(x, lambda: sys.exit(3))


def result_grows(x: Any) -> Any:
    return _asked(x, lambda: (bytearray(400 << 20), time.sleep(1e6)))


class Hanging(Exception):
    def __str__(self) -> str:
        time.sleep(1e6)
        return "at last"


def error_hangs(x: Any) -> Any:
    return _unless(x, lambda: _raise(Hanging()))


class Text(str):
    """What no master has heard of."""


class Worded(Exception):
    def __str__(self) -> str:
        return Text("in so many words")


def error_is_worded(x: Any) -> Any:
    return _unless(x, lambda: _raise(Worded()))
