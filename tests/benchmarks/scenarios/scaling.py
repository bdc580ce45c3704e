"""Naps of 100 ms in 1 to 64 slots: whether twice the slots do twice as much."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import dq
from benchmarks import stats
from benchmarks.measure import Options, Sample, collect, timed
from benchmarks.report import Goal, Table

SECONDS = 0.1
PROCESSES = 8  # at most: beyond that, each has more threads


def measure(options: Options) -> Iterator[Table]:
    slots = [1, 2] if options.size == "quick" else [1, 2, 4, 8, 16, 32, 64]
    rounds = options.pick(2, 40)
    samples = collect(
        [(str(count), functools.partial(_sample, count, rounds)) for count in slots],
        options.repeats,
    )
    rows = []
    for count in slots:
        rate = samples.median(str(count), "rate")
        rows.append([f"dq: {count} slots", stats.show_count(rate), f"{rate * SECONDS / count:.1%}"])
    worst = min(samples.median(str(count), "rate") * SECONDS / count for count in slots)
    yield Table(
        f"Naps of {SECONDS * 1e3:g} ms, {rounds} for each slot, median of {options.repeats}",
        ["", "naps/s", "of ideal"],
        rows,
        samples.figures,
        [f"Up to {PROCESSES} slots are as many processes; beyond, each has more threads."],
        [Goal("the lowest rate, of ideal", worst, 0.97)],
    )


def _sample(slots: int, rounds: int) -> Sample:
    """A steady state: workers are there, and so are the first results."""
    threads = max(slots // PROCESSES, 1)
    with dq.Master(workers=slots // threads, threads=threads) as master:
        list(master.map("time:sleep", [SECONDS / 10] * 10 * slots))
        seconds, _ = timed(lambda: list(master.map("time:sleep", [SECONDS] * rounds * slots)))
    return {"rate": rounds * slots / seconds}
