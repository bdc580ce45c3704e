"""Big inputs and results: bytes a second, and the memory that it takes."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from benchmarks import functions, stats
from benchmarks.measure import WORKERS, Contender, Options, PeakMemory, Sample, collect, timed
from benchmarks.peers import dq_, executor, pool
from benchmarks.report import Goal, Table

LINEUP = [dq_.MAP, pool.contender(1), pool.contender(10), executor.contender(1)]


def measure(options: Options) -> Iterator[Table]:
    yield _measure(options.pick(20, 10_000), 100 * 1024, options)
    yield _measure(options.pick(2, 20, 100), options.pick(1, 50) * 2**20, options)


def _measure(count: int, size: int, options: Options) -> Table:
    samples = collect(
        [(c.name, functools.partial(_echo, c, count, size)) for c in LINEUP], options.repeats
    )
    best = samples.best((c.name for c in LINEUP if c.name.startswith("Pool")), "rate")
    rows = [
        [c.name, samples.reasons[c.name]]
        if c.name in samples.reasons
        else [
            c.name,
            f"{stats.show_bytes(samples.median(c.name, 'rate'))}/s",
            stats.show_ratio(stats.ratio(samples.median(c.name, "rate"), best)),
            stats.show_bytes(samples.median(c.name, "memory")),
        ]
        for c in LINEUP
    ]
    title = (
        f"{count} payloads of {stats.show_bytes(size)} there and back from a generator,"
        f" {WORKERS} workers, steady state, median of {options.repeats}"
    )
    share = stats.ratio(samples.median(dq_.MAP.name, "rate"), best)
    goals = [Goal("dq, bytes a second, of Pool's best", share, 0.8)]
    columns = ["", "each way", "x best Pool", "memory, peak"]
    notes = ["Memory: resident, of the process that submits, beyond what it had before."]
    return Table(title, columns, rows, samples.figures, notes, goals)


def _echo(contender: Contender, count: int, size: int) -> Sample:
    with contender.session(functions.echo, WORKERS) as run, PeakMemory() as memory:
        for _ in run(payloads(4 * WORKERS, 1024)):
            pass
        seconds, nbytes = timed(lambda: sum(map(len, run(payloads(count, size)))))
    if nbytes != count * size:
        raise AssertionError(f"{nbytes} bytes came back of {count * size}")
    return {"rate": nbytes / seconds, "memory": float(memory.growth)}


def payloads(count: int, size: int) -> Iterator[bytes]:
    """Each an object of its own: pickle sends the same one only once in a batch."""
    rest = bytes(size - 8)
    for n in range(count):
        yield n.to_bytes(8, "big") + rest
