"""A task process is killed: milliseconds until a new one has begun a task in its place."""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import dq
from benchmarks import stats, telling
from benchmarks.measure import WORKERS, Options, Sample, collect
from benchmarks.report import Goal, Table
from benchmarks.scenarios.recovery import embedded, outside, watching

WAYS: dict[str, Callable[[], AbstractContextManager[dq.Master]]] = {
    f"dq: {WORKERS} processes in the master": embedded,
    f"dq: dq worker -p {WORKERS}": functools.partial(outside, [WORKERS]),
}
GOAL = 0.010  # seconds


def measure(options: Options) -> Iterator[Table]:
    count = options.pick(3, 100)
    samples = collect(
        [(name, functools.partial(_replaced, session, count)) for name, session in WAYS.items()],
        options.repeats,
    )
    rows, goals = [], []
    for name in WAYS:
        if name in samples.reasons:
            rows.append([name, samples.reasons[name]])
            continue
        times = [samples.median(name, what) for what in ("p50", "p99")]
        rows.append([name, *map(stats.show_seconds, times)])
        goals.append(Goal(f"{name}: p50, s", times[0], GOAL, at_least=False))
    title = f"A killed task process is replaced, {count} times, median of {options.repeats}"
    notes = [
        "From SIGKILL to the first task of the new process; the other one is busy. What the task's"
        " own module imports comes on top."
    ]
    yield Table(title, ["", "p50", "p99"], rows, samples.figures, notes, goals)


def _replaced(session: Callable[[], AbstractContextManager[dq.Master]], count: int) -> Sample:
    """As many tasks as processes, none of which ends: a killed one's waits for the new process."""
    taken = []
    with session() as master, watching() as watch:
        results = master.stream(telling.held, [watch.path] * WORKERS)
        pids = [watch.next()[0] for _ in range(WORKERS)]
        for n in range(count):
            victim = pids.pop(0)
            killed = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            pid, begun = watch.next()
            assert pid not in (victim, *pids), f"kill {n}: the task went to {pid}"
            pids.append(pid)
            taken.append(begun - killed)
        watch.end()
        list(results)
    return {"p50": stats.percentile(taken, 50), "p99": stats.percentile(taken, 99)}
