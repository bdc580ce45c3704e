"""Durations from a heavy tail, shuffled: how far the makespan is from the lower bound."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import stats
from benchmarks.measure import WORKERS, Options
from benchmarks.peers import dq_
from benchmarks.report import Goal, Table
from benchmarks.scenarios import schedule

SEEDS = (1, 2, 3)


def measure(options: Options) -> Iterator[Table]:
    count = options.pick(50, 500)
    total = options.pick(50, 5_000) / 1000
    for seed in SEEDS[: options.pick(1, 3)]:
        yield _measure(stats.heavy_tail(count, total, seed=seed), seed, options)


def _measure(durations: list[float], seed: int, options: Options) -> Table:
    samples = schedule.run(durations, options, schedule.LINEUP)
    longest = stats.show_seconds(max(durations))
    title = (
        f"Heavy tail (Pareto, alpha 1.5, seed {seed}): {len(durations)} tasks,"
        f" {sum(durations):.3g} s, the longest {longest}; {WORKERS} workers,"
        f" median of {options.repeats}"
    )
    rows = schedule.rows(samples, schedule.LINEUP, "makespan", "stretch")
    stretch = samples.median(dq_.MAP.name, "stretch")
    possible = stats.list_schedule(durations, WORKERS) / stats.bound(durations, WORKERS)
    goals = [
        Goal("dq, makespan / bound", stretch, 1.1, at_least=False),
        Goal("dq, of what can be had in this order", stretch / possible, 1.02, at_least=False),
    ]
    notes = [
        "Bound: the larger of total / slots and the longest task. Who takes tasks in this order,"
        f" not knowing how long they are, cannot get below {possible:.4f}."
    ]
    return Table(title, ["", "makespan", "/ bound"], rows, samples.figures, notes, goals)
