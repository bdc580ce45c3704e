"""Millions of inputs from a generator: how much the master's memory grows."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import time
from collections.abc import Iterator

import dq
from benchmarks import functions, stats
from benchmarks.measure import WORKERS, Options, Sample, collect, rss
from benchmarks.report import Goal, Table

WAYS = {"dq (map, inputs' order)": "map", "dq (stream, as they come)": "stream"}
EVERY = 20_000  # results between two looks


def measure(options: Options) -> Iterator[Table]:
    """In a process of its own for each, so that no other scenario's memory is in the figures."""
    first = options.pick(1_000, 100_000)
    count = options.pick(5_000, 2_000_000, 10_000_000)
    samples = collect(
        [(name, functools.partial(_apart, way, first, count)) for name, way in WAYS.items()], 1
    )
    rows = [
        [name, samples.reasons[name]]
        if name in samples.reasons
        else [
            name,
            stats.show_bytes(samples.median(name, "at first")),
            stats.show_bytes(samples.median(name, "growth")),
            stats.show_count(samples.median(name, "rate")),
        ]
        for name in WAYS
    ]
    title = f"{stats.show_count(count)} inputs from a generator: resident memory of the master"
    columns = ["", f"after {stats.show_count(first)}", "most beyond that", "tasks/s"]
    goals = [
        Goal(f"{name}: MB more", samples.median(name, "growth") / 1e6, 50, at_least=False)
        for name in WAYS
    ]
    yield Table(title, columns, rows, samples.figures, (), goals)


def _apart(way: str, first: int, count: int) -> Sample:
    argv = [sys.executable, "-m", __name__, way, str(first), str(count)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=True)
    sample: Sample = json.loads(done.stdout)
    return sample


def grow(way: str, first: int, count: int) -> Sample:
    """Stream so many inputs; the memory after the first of them, and the most later on."""
    inputs = (n for n in range(count))
    at_first = most = taken = 0
    started = time.perf_counter()
    with dq.Master(workers=WORKERS) as master:
        results = getattr(master, way)(functions.square, inputs)
        for _ in results:
            taken += 1
            if taken == first:
                at_first = most = rss()
            elif taken % EVERY == 0 and taken > first:
                most = max(most, rss())
        seconds = time.perf_counter() - started
        most = max(most, rss())
    if taken != count:
        raise AssertionError(f"{taken} results for {count} inputs")
    return {"at first": at_first, "growth": most - at_first, "rate": count / seconds}


if __name__ == "__main__":
    print(json.dumps(grow(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
