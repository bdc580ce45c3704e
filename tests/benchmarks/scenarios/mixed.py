"""Long tasks hidden among short ones: how long short results are held back behind them."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import stats
from benchmarks.measure import WORKERS, Options
from benchmarks.peers import dq_, pool
from benchmarks.report import Goal, Table
from benchmarks.scenarios import schedule

LINEUP = [dq_.STREAM, pool.contender(1), pool.contender(100), pool.contender(1000)]


def measure(options: Options) -> Iterator[Table]:
    count = options.pick(500, 20_000, 100_000)
    few = options.pick(2, 4, 20)
    seconds = options.pick(200, 2_000) / 1000
    samples = schedule.run(stats.mixed(count, few, seconds), options, LINEUP)
    title = (
        f"{count} tasks of 0 s, {few} of {seconds:g} s hidden in them, results as they come;"
        f" {WORKERS} workers, median of {options.repeats}"
    )
    columns = ["", "makespan", "/ bound", "longest held back"]
    rows = schedule.rows(samples, LINEUP, "makespan", "stretch", "held")
    held = max(samples.figures.get(dq_.STREAM.name, {}).get("held", [float("nan")]))
    goals = [
        Goal("dq, seconds that a short result was held back, worst", held, 0.5, at_least=False),
        Goal(
            "dq, makespan / bound", samples.median(dq_.STREAM.name, "stretch"), 1.1, at_least=False
        ),
    ]
    notes = ["Held back: from the end of a short task to its result with the reader."]
    yield Table(title, columns, rows, samples.figures, notes, goals)
