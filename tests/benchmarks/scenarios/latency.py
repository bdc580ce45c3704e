"""One task submitted, its result back: p50 and p99."""

from __future__ import annotations

import contextlib
import functools
import pickle
import queue
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AbstractContextManager
from multiprocessing.pool import Pool
from typing import Any

import dq
from benchmarks import functions, stats
from benchmarks.measure import WORKERS, Options, Sample, Samples, collect, piped
from benchmarks.peers import recipe
from benchmarks.report import Goal, Table

Call = Callable[[int], Any]  # one task there and back
WARM = 50
BUDGET = 10.0  # seconds that a sample takes at most; the slow have fewer tasks in theirs

DQ_EXECUTOR = "dq: Executor.submit().result()"
DQ_STREAM = "dq: Master.stream, an input when the last result is there"
DQ_MAP = "dq: Master.map of a single input, each time"
DQ_PLAIN = "dq: put and get through the plain queues"
DQ_PLAIN_TASK = "dq: put on the task queue, its dq worker's result"
RAW = "the recipe: put and get, no worker"
RECIPE_TASK = "the recipe: put, its worker's result"
EXECUTOR = "ProcessPoolExecutor.submit().result()"
POOL = "Pool.apply_async().get()"
BARE = "a thread, a socket, a process, and nothing else"
ECHO = """
import pickle, socket, sys

with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as peer:
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := peer.recv(4096):
        peer.sendall(pickle.dumps(pickle.loads(data)))
"""


def measure(options: Options) -> Iterator[Table]:
    count = options.pick(20, 2_000)
    calls: dict[str, Callable[[], AbstractContextManager[Call]]] = {
        DQ_EXECUTOR: dq_executor,
        DQ_STREAM: dq_stream,
        DQ_MAP: dq_map,
        DQ_PLAIN: dq_plain,
        DQ_PLAIN_TASK: dq_plain_task,
        RAW: recipe_raw,
        RECIPE_TASK: recipe_task,
        EXECUTOR: executor,
        POOL: pool,
        BARE: bare,
    }
    samples = collect(
        [(name, functools.partial(_latency, call, count)) for name, call in calls.items()],
        options.repeats,
    )
    rows = [_row(samples, name) for name in calls]
    title = f"Latency: no-op tasks, one after another, median of {options.repeats}"
    notes = [
        "A put and get without a worker is half of the way that a task has to go.",
        "The last line is that way at its barest: a call handed to the thread of a connection, sent"
        " as a pickle, sent back by another process, handed over as a future.",
    ]
    goals = [
        Goal(
            f"{what} of {us.partition(':')[0]}'s best, of {them}",
            samples.best(ours, what, highest=False) / samples.median(them, what),
            1.0,
            at_least=False,
        )
        for us, ours, them in (
            ("dq: tasks", (DQ_EXECUTOR, DQ_STREAM, DQ_MAP), EXECUTOR),
            ("dq: tasks", (DQ_EXECUTOR, DQ_STREAM, DQ_MAP), RAW),
        )
        for what in ("p50", "p99")
    ]
    yield Table(title, ["", "tasks", "p50", "p99", "mean"], rows, samples.figures, notes, goals)


def _row(samples: Samples, name: str) -> list[str]:
    if name in samples.reasons:
        return [name, samples.reasons[name]]
    cells = [stats.show_seconds(samples.median(name, what)) for what in ("p50", "p99", "mean")]
    return [name, f"{samples.median(name, 'tasks'):.0f}", *cells]


def _latency(session: Callable[[], AbstractContextManager[Call]], count: int) -> Sample:
    taken = []
    spent = 0.0
    with session() as call:
        for n in range(WARM):
            call(n)
        for n in range(count):
            started = time.perf_counter()
            value = call(n)
            taken.append(time.perf_counter() - started)
            if value not in (n, n * n):
                raise AssertionError(f"{value} for {n}")
            spent += taken[-1]
            if spent > BUDGET:
                break
    return {
        "tasks": len(taken),
        "p50": stats.percentile(taken, 50),
        "p99": stats.percentile(taken, 99),
        "mean": statistics.fmean(taken),
    }


@contextlib.contextmanager
def dq_executor() -> Iterator[Call]:
    with dq.Executor(WORKERS) as pool:
        yield lambda n: pool.submit(functions.square, n).result()


@contextlib.contextmanager
def dq_stream() -> Iterator[Call]:
    """Through one job, whose inputs come from a queue."""
    inputs: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    with dq.Master(workers=WORKERS) as master:
        results = master.stream(functions.square, iter(inputs.get, None))

        def call(n: int) -> Any:
            inputs.put(n)
            return next(results).value

        yield call
        inputs.put(None)
        list(results)


@contextlib.contextmanager
def dq_map() -> Iterator[Call]:
    with dq.Master(workers=WORKERS) as master:

        def call(n: int) -> Any:
            [value] = master.map(functions.square, [n])
            return value

        yield call


@contextlib.contextmanager
def dq_plain() -> Iterator[Call]:
    """The recipe's client at a dq master that nobody works for."""
    with dq.Master(host="127.0.0.1", port=0, authkey=recipe.AUTHKEY) as master:
        tasks, _ = recipe.connect(master.address)

        def call(n: int) -> Any:
            tasks.put(n)
            return tasks.get()

        yield call


@contextlib.contextmanager
def dq_plain_task() -> Iterator[Call]:
    """The recipe's client at a dq master with dq's workers."""
    options: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "authkey": recipe.AUTHKEY}
    with dq.Master(functions.square, workers=WORKERS, **options) as master:
        yield _put_and_get(*recipe.connect(master.address))


@contextlib.contextmanager
def recipe_raw() -> Iterator[Call]:
    with recipe.serving() as address:
        tasks, _ = recipe.connect(address)
        yield _put_and_get(tasks, tasks)


@contextlib.contextmanager
def recipe_task() -> Iterator[Call]:
    with recipe.session(functions.square, WORKERS) as run:

        def call(n: int) -> Any:
            [value] = run([n])
            return value

        yield call


def _put_and_get(there: Any, back: Any) -> Call:
    def call(n: int) -> Any:
        there.put(n)
        return back.get()

    return call


@contextlib.contextmanager
def executor() -> Iterator[Call]:
    with ProcessPoolExecutor(WORKERS) as pool:
        yield lambda n: pool.submit(functions.square, n).result()


@contextlib.contextmanager
def pool() -> Iterator[Call]:
    with Pool(WORKERS) as workers:
        yield lambda n: workers.apply_async(functions.square, (n,)).get()


@contextlib.contextmanager
def bare() -> Iterator[Call]:
    """What any master with a thread for each connection has to do at least."""
    calls: queue.SimpleQueue[tuple[int, Future[int]]] = queue.SimpleQueue()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        with piped("-c", ECHO, port), server.accept()[0] as peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def serve() -> None:
                while True:
                    n, future = calls.get()
                    if n < 0:
                        return
                    peer.sendall(pickle.dumps(n))
                    future.set_result(pickle.loads(peer.recv(4096)))

            thread = threading.Thread(target=serve)
            thread.start()

            def call(n: int) -> int:
                future: Future[int] = Future()
                calls.put((n, future))
                return future.result()

            yield call
            calls.put((-1, Future()))
            thread.join()
