"""What a death costs: seconds until the work goes on elsewhere, and until workers are back.

A task says when it begins, over a datagram socket, on the clock that all processes share.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import dq
from benchmarks import stats, telling
from benchmarks.measure import WORKERS, Options, Sample, collect
from benchmarks.report import Goal, Table
from support import DQ, Running, alive, can_make_hosts, descendants, serving, two_hosts, wait_until

KEY = "a key for measurements only"
ENV = {"DQ_AUTHKEY": KEY}
MANY = 1_000_000  # deaths that a task may have: what dies here is no fault of the task
LONG = 10_000  # tasks, more than are done in any of these runs
EMBEDDED = f"dq: a task process, {WORKERS} in the master"
ONE_WORKER = f"dq: a task process, dq worker -p {WORKERS}"
TWO_WORKERS = "dq: a task process, two of dq worker -p 1"
WHOLE = "dq: a worker, supervisor first, of two"
SHORT_GAP, LONG_GAP = "dq: away for 0.1 s", "dq: away for 5 s"
ROUTE = "dq: a machine is cut off, no packet comes"


def measure(options: Options) -> Iterator[Table]:
    yield _kills(options)
    yield _restarts(options)
    if options.size != "quick":
        yield _cut_off(options)


class Watch:
    """Hears tasks begin: which process, and when."""

    def __init__(self, folder: str) -> None:
        self.path = f"{folder}/begun"
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(self.path)

    def next(self, timeout: float = 60.0) -> tuple[int, float]:
        """The next to begin."""
        self._sock.settimeout(timeout)
        pid, when = self._sock.recv(100).split()
        return int(pid), float(when)

    def end(self) -> None:
        """Let `telling.held` return."""
        Path(self.path).unlink(missing_ok=True)

    def close(self) -> None:
        self.end()
        self._sock.close()


@contextlib.contextmanager
def watching() -> Iterator[Watch]:
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(Watch(folder)) as watch:
        yield watch


# A process in a task


def _kills(options: Options) -> Table:
    count = options.pick(3, 200, 1000)
    apart = functools.partial(outside, [1, 1])
    ways = {
        EMBEDDED: functools.partial(_killed, embedded, count),
        ONE_WORKER: functools.partial(_killed, functools.partial(outside, [WORKERS]), count),
        TWO_WORKERS: functools.partial(_killed, apart, count),
        WHOLE: functools.partial(_killed, apart, options.pick(1, 50, 200), whole=True),
    }
    note = "From SIGKILL in a task to its beginning in another process, which was idle."
    return _table("A process is killed in a task", ways, note, "p99", 0.05)


def _table(
    title: str, ways: dict[str, Callable[[], Sample]], note: str, what: str, limit: float
) -> Table:
    samples = collect(list(ways.items()), repeats=1, patience=900)
    goals = [
        Goal(f"{name}: {what}, s", samples.median(name, what), limit, at_least=False)
        for name in ways
    ]
    columns = ["", "times", "p50", "p99", "longest"]
    rows = [
        [name, samples.reasons[name]]
        if name in samples.reasons
        else [
            name,
            f"{samples.median(name, 'times'):.0f}",
            *(stats.show_seconds(samples.median(name, what)) for what in columns[2:]),
        ]
        for name in ways
    ]
    return Table(title, columns, rows, samples.figures, [note], goals)


def _sample(taken: list[float]) -> Sample:
    return {
        "times": len(taken),
        "p50": stats.percentile(taken, 50),
        "p99": stats.percentile(taken, 99),
        "longest": max(taken),
    }


@contextlib.contextmanager
def embedded() -> Iterator[dq.Master]:
    with dq.Master(workers=WORKERS, max_deaths=MANY, report=_nobody) as master:
        yield master


@contextlib.contextmanager
def outside(sizes: list[int]) -> Iterator[dq.Master]:
    """Workers in processes of their own, of so many task processes each."""
    where = {"host": "127.0.0.1", "port": 0, "authkey": KEY}
    with ExitStack() as stack:
        master = stack.enter_context(dq.Master(**where, max_deaths=MANY, report=_nobody))
        for size in sizes:
            stack.enter_context(worker(master.address[1], size))
        yield master


def _nobody(line: str) -> None:
    """The processes that are replaced here are no news."""


@contextlib.contextmanager
def worker(port: int, size: int = 1) -> Iterator[None]:
    with Running(*DQ, "worker", "-q", "-s", f"127.0.0.1:{port}", "-p", str(size), env=ENV) as it:
        yield
        it.send_signal(signal.SIGTERM)
        it.wait()


def _killed(
    session: Callable[[], AbstractContextManager[dq.Master]], count: int, whole: bool = False
) -> Sample:
    """Kill whoever has the one task, or the `whole` of its worker, so many times."""
    taken: list[float] = []
    with ExitStack() as stack:
        master = stack.enter_context(session())
        watch = stack.enter_context(watching())
        results = master.stream(telling.held, [watch.path])
        pid, _ = watch.next()
        for _ in range(count):
            wait_until(lambda: _all_there(master))
            victim = _parent(pid) if whole else pid
            killed = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            pid, begun = watch.next()
            taken.append(begun - killed)
            if whole:
                stack.enter_context(worker(master.address[1]))
        watch.end()
        list(results)
    return _sample(taken)


def _all_there(master: dq.Master) -> bool:
    """Whether there are as many slots as there should be, the last one to die not among them."""
    with master.runtime.dispatcher.lock:
        holders = list(master.runtime.dispatcher.board.holders.values())
    pids = [int(holder.name.rpartition(":")[2]) for holder in holders if holder.is_slot]
    return len(pids) == WORKERS and all(map(alive, pids))


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


# The master


def _restarts(options: Options) -> Table:
    count = options.pick(1, 40, 200)
    ways = {
        SHORT_GAP: functools.partial(_restarted, 0.1, count),
        LONG_GAP: functools.partial(_restarted, options.pick(1, 5), count),
    }
    note = "From the new master's listening to both of two workers having begun a task of it."
    return _table("kill -9 of a master with a journal", ways, note, "longest", 2.0)


def _restarted(gap: float, count: int) -> Sample:
    """Kill a master, and start it again after `gap` seconds, so many times."""
    taken: list[float] = []
    with watching() as watch, ExitStack() as stack:
        folder = Path(watch.path).parent
        (folder / "inputs").write_text(f"{watch.path}\n" * LONG)
        job = ("benchmarks.telling:tell", "--input", "inputs", "--raw", "--journal", "journal")
        how = {"cwd": folder, "env": {**ENV, "PYTHONPATH": os.pathsep.join(sys.path)}}
        master, port = stack.enter_context(serving(*job, "-q", "--host", "127.0.0.1", **how))
        for _ in range(WORKERS):
            stack.enter_context(worker(port))
        seen = _begun(watch, set())
        for _ in range(count):
            master.send_signal(signal.SIGKILL)
            master.wait()
            time.sleep(gap)
            again = (*DQ, "master", *job, "-q", "--host", "127.0.0.1", "--port", str(port))
            master = stack.enter_context(Running(*again, **how))
            master.wait_for("serving on")
            listening = time.monotonic()
            seen = _begun(watch, seen)
            taken.append(time.monotonic() - listening)
        master.send_signal(signal.SIGTERM)
        master.wait()
    return _sample(taken)


def _begun(watch: Watch, before: set[int]) -> set[int]:
    """Wait until as many processes as there are workers, others than those `before`, have begun.
    (A new master's workers start new processes for it.)"""
    found: set[int] = set()
    while len(found) < WORKERS:
        pid, _ = watch.next()
        if pid not in before:
            found.add(pid)
    return found


# The route


def _cut_off(options: Options) -> Table:
    ways = {ROUTE: functools.partial(_blackholed, options.pick(1, 3, 10))}
    note = "From then on to the task's beginning on another machine: TCP keepalive, 10 s + 3 x 5 s."
    return _table("A worker's machine vanishes in a task", ways, note, "longest", 30.0)


def _blackholed(count: int) -> Sample:
    reason = can_make_hosts()
    if reason is not None:
        raise RuntimeError(reason)
    taken: list[float] = []
    for _ in range(count):
        with watching() as watch, two_hosts() as hosts:
            job = ("benchmarks.functions:held", watch.path, "--port", "5000")
            here = ("worker", "-q", "-p", "1", "-s", f"{hosts.a.address}:5000")
            with hosts.a.running(*DQ, "master", *job, env=ENV) as master:
                master.wait_for("serving on")
                with hosts.b.running(*DQ, *here, env=ENV):
                    watch.next()
                    with hosts.a.running(*DQ, *here, env=ENV) as other:
                        wait_until(lambda pid=other.pid: len(descendants(pid)) > 0)
                        hosts.partition()
                        cut = time.monotonic()
                        taken.append(watch.next(300)[1] - cut)
    return _sample(taken)
