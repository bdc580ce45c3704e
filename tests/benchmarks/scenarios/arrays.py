"""NumPy arrays: there and back, over TCP beside a bare socket, and one that every task needs."""

from __future__ import annotations

import functools
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy

import dq
from benchmarks import functions, stats
from benchmarks.measure import (
    WORKERS,
    Options,
    PeakMemory,
    Run,
    Sample,
    Samples,
    collect,
    piped,
    timed,
)
from benchmarks.peers import dq_, executor, joblib_, pool
from benchmarks.report import Goal, Table

KEY = b"a key for measurements only"
MIB = 2**20
PEERS = [pool.contender(1), executor.contender(1), joblib_.contender(1)]
LINEUP = {one.name: one for one in (dq_.MAP, *PEERS)}
COUNTS = {1: 200, 8: 40, 50: 10}  # by MiB
GOALS = {1: 1.5, 8: 3.0, 50: 3.0}  # times the best peer
LINK_GOALS = {1: 0.8, 8: 0.8, 50: 0.8}  # of a bare socket's rate
# What a program does that has nothing to do but to send arrays and to get them back.
ECHO = """
import socket, sys
import numpy

port, count, size = map(int, sys.argv[1:])
with socket.create_connection(("127.0.0.1", port)) as peer:
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _ in range(count):
        array = numpy.empty(size // 8)
        rest = memoryview(array).cast("B")
        while rest:
            rest = rest[peer.recv_into(rest) :]
        peer.sendall(array)
"""
DQ_LINK, BARE_LINK = "dq: a master and a worker", "a bare socket, recv_into and sendall"


def measure(options: Options) -> Iterator[Table]:
    yield _there_and_back(options)
    yield _link(options)
    yield _shared(options)


# Arrays there and back


def _there_and_back(options: Options) -> Table:
    """In a process of its own for each, so that no other's memory is in the figures."""
    samples = collect(
        [
            (f"{name} {mib}", functools.partial(_apart, name, options.pick(2, count), mib * MIB))
            for mib, count in COUNTS.items()
            for name in LINEUP
        ],
        options.repeats,
    )
    return _by_sizes(samples, options.repeats)


def _by_sizes(samples: Samples, repeats: int) -> Table:
    best = {mib: samples.best((f"{one.name} {mib}" for one in PEERS), "rate") for mib in COUNTS}
    columns = [""]
    for mib in COUNTS:
        columns += [f"{mib} MiB", "x best peer"]
    goals = [
        Goal(
            f"dq, {mib} MiB, times the best of the others",
            stats.ratio(samples.median(f"{dq_.MAP.name} {mib}", "rate"), best[mib]),
            limit,
        )
        for mib, limit in GOALS.items()
    ]
    return Table(
        f"Arrays there and back from a generator, {WORKERS} workers, steady state,"
        f" median of {repeats}",
        [*columns, f"memory, {max(COUNTS)} MiB"],
        [_row(samples, name, best) for name in LINEUP],
        samples.figures,
        [
            "Making the arrays is in it.",
            "Memory: resident, of the process that submits, beyond what it had before.",
        ],
        goals,
    )


def _row(samples: Samples, name: str, best: dict[int, float]) -> list[str]:
    reasons = [
        samples.reasons[f"{name} {mib}"] for mib in best if f"{name} {mib}" in samples.reasons
    ]
    if reasons:
        return [name, reasons[0]]
    cells = [name]
    for mib in best:
        rate = samples.median(f"{name} {mib}", "rate")
        cells += [f"{stats.show_bytes(rate)}/s", stats.show_ratio(stats.ratio(rate, best[mib]))]
    return [*cells, stats.show_bytes(samples.median(f"{name} {max(best)}", "memory"))]


def _apart(name: str, count: int, size: int) -> Sample:
    argv = [sys.executable, "-m", __name__, name, str(count), str(size)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().rpartition("\n")[2])
    sample: Sample = json.loads(done.stdout)
    return sample


def echo(name: str, count: int, size: int) -> Sample:
    with LINEUP[name].session(functions.same, WORKERS) as run:
        _read(run(arrays(4 * WORKERS, 1024)), 4 * WORKERS)
        with PeakMemory() as memory:
            seconds, _ = timed(lambda: _read(run(arrays(count, size)), count))
    return {"rate": count * size / seconds, "memory": float(memory.growth)}


def arrays(count: int, size: int) -> Iterator[Any]:
    return (numpy.full(size // 8, float(n)) for n in range(count))


def _read(values: Iterable[Any], count: int) -> None:
    """Both ends of each array have to be its own number, each number once."""
    found = []
    for array in values:
        assert array[0] == array[-1]
        found.append(int(array[0]))
    assert sorted(found) == list(range(count))


# Over TCP


def _link(options: Options) -> Table:
    counts = {mib: options.pick(2, max(10, 200 // mib)) for mib in LINK_GOALS}
    ways = {DQ_LINK: _through_dq, BARE_LINK: _through_socket}
    contenders = {
        (name, mib): functools.partial(way, count, mib * MIB)
        for mib, count in counts.items()
        for name, way in ways.items()
    }
    samples = collect(
        [(f"{name} {mib}", call) for (name, mib), call in contenders.items()], options.repeats
    )
    rows, goals = [], []
    for mib, limit in LINK_GOALS.items():
        base = samples.median(f"{BARE_LINK} {mib}", "rate")
        for name in ways:
            what, key = f"{name}, {mib} MiB", f"{name} {mib}"
            if key in samples.reasons:
                rows.append([what, samples.reasons[key]])
                continue
            rate = samples.median(key, "rate")
            share = stats.ratio(rate, base)
            rows.append([what, f"{stats.show_bytes(rate)}/s", stats.show_ratio(share)])
            if name == DQ_LINK:
                goals.append(Goal(f"dq, {mib} MiB, of a bare socket", share, limit))
    title = (
        "Arrays there and back over TCP on this machine, one slot, not encrypted,"
        f" median of {options.repeats}"
    )
    notes = ["Making the arrays is in it, on both sides."]
    columns = ["", "each way", "x bare socket"]
    return Table(title, columns, rows, samples.figures, notes, goals)


def _through_dq(count: int, size: int) -> Sample:
    with dq.Master(host="127.0.0.1", port=0, authkey=KEY, tls="off") as master:
        port = master.address[1]
        script = (
            "import dq;"
            f" dq.run_worker('127.0.0.1', {port}, authkey={KEY!r}, processes=1, tls='off')"
        )
        with piped("-c", script):
            _read(master.map(functions.same, arrays(4, size)), 4)
            seconds, _ = timed(
                lambda: _read(master.map(functions.same, arrays(count, size)), count)
            )
            master.close()
    return {"rate": count * size / seconds}


def _through_socket(count: int, size: int) -> Sample:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        with piped("-c", ECHO, port, str(count + 4), str(size)), server.accept()[0] as peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _read(_exchanged(peer, arrays(4, size)), 4)
            seconds, _ = timed(lambda: _read(_exchanged(peer, arrays(count, size)), count))
    return {"rate": count * size / seconds}


def _exchanged(peer: socket.socket, inputs: Iterable[Any]) -> Iterator[Any]:
    for array in inputs:
        peer.sendall(array)
        answer = numpy.empty_like(array)
        rest = memoryview(answer).cast("B")
        while rest:
            rest = rest[peer.recv_into(rest) :]
        yield answer


# One array for all tasks


@contextmanager
def _constants(function: functools.partial[float], workers: int) -> Iterator[Run]:
    with dq.Master(workers=workers) as master:
        yield lambda inputs: master.map(function.func, inputs, constants=function.keywords)


@contextmanager
def _closure(function: functools.partial[float], workers: int) -> Iterator[Run]:
    table = function.keywords["table"]
    with dq.Master(workers=workers) as master:
        yield lambda inputs: master.map(lambda n: float(table[n]), inputs)


Opened = Callable[[Any, int], AbstractContextManager[Run]]
JOBLIB = "joblib, functools.partial (a memory map)"
SHARED_BY: dict[str, Opened] = {
    "dq: functools.partial": dq_.mapping,
    "dq: a closure": _closure,
    "dq: constants=": _constants,
    JOBLIB: joblib_.session,
    "ProcessPoolExecutor.map, chunk 10, partial": executor.contender(10).session,
    "Pool.imap_unordered, chunk 10, partial": pool.contender(10).session,
}


def _shared(options: Options) -> Table:
    size = options.pick(1, 100) * 10**6
    table = numpy.random.default_rng(1).random(size // 8)
    samples = collect(
        [
            (name, functools.partial(_looked_up, session, table))
            for name, session in SHARED_BY.items()
        ],
        options.repeats,
    )
    rows = []
    for name in SHARED_BY:
        if name in samples.reasons:
            rows.append([name, samples.reasons[name]])
            continue
        cells = [name]
        for what in ("whole", "again"):
            seconds = samples.median(name, what)
            theirs = samples.median(JOBLIB, what)
            cells += [stats.show_seconds(seconds), stats.show_ratio(stats.ratio(seconds, theirs))]
        rows.append(cells)
    goals = [
        Goal(
            f"{name}, start to end, of joblib's time",
            stats.ratio(samples.median(name, "whole"), samples.median(JOBLIB, "whole")),
            1,
            at_least=False,
        )
        for name in SHARED_BY
        if name.startswith("dq")
    ]
    title = (
        f"Twenty tasks that read the same array of {size // 10**6} MB, {WORKERS} workers,"
        f" median of {options.repeats}"
    )
    columns = ["", "start to end", "x joblib's", "once more", "x joblib's"]
    notes = ["Once more: the same call with the same workers."]
    return Table(title, columns, rows, samples.figures, notes, goals)


def _looked_up(session: Opened, table: Any) -> Sample:
    inputs = range(20)
    expected = sorted(float(table[n]) for n in inputs)
    function = functools.partial(functions.look_up, table=table)

    def call(run: Run) -> None:
        assert sorted(run(inputs)) == expected

    def opened() -> float:
        with session(function, WORKERS) as run:
            call(run)
            again, _ = timed(lambda: call(run))
        return again

    seconds, again = timed(opened)
    return {"whole": seconds - again, "again": again}


if __name__ == "__main__":
    print(json.dumps(echo(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
