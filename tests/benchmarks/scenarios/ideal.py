"""1,000 tasks of 10 ms: the share of what is ideal."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.measure import WORKERS, Options
from benchmarks.peers import dq_
from benchmarks.report import Goal, Table
from benchmarks.scenarios import schedule


def measure(options: Options) -> Iterator[Table]:
    count = options.pick(20, 1_000)
    samples = schedule.run([0.01] * count, options, schedule.LINEUP)
    for figures in samples.figures.values():
        figures["share"] = [1 / stretch for stretch in figures["stretch"]]
    title = f"{count} tasks of 10 ms, {WORKERS} workers, steady state, median of {options.repeats}"
    rows = schedule.rows(samples, schedule.LINEUP, "makespan", "share")
    share = samples.median(dq_.MAP.name, "share")
    goals = [Goal("dq, share of ideal", share, 0.99)]
    notes = ["Ideal: the work, as the tasks themselves measured it, divided by the slots."]
    yield Table(title, ["", "makespan", "of ideal"], rows, samples.figures, notes, goals)
