"""No-op tasks a second: dq against other toolkits, each at its default and best settings."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from benchmarks import functions, peers, stats
from benchmarks.measure import WORKERS, Contender, Options, Sample, Samples, collect
from benchmarks.peers import dq_
from benchmarks.report import Goal, Table
from benchmarks.scenarios import throughput

FARAHEAD = {"dask": 500.0, "celery": 500.0}  # how many times as fast dq has to be, task by task


def measure(options: Options) -> Iterator[Table]:
    reasons: dict[str, str] = {}
    contenders: list[Contender] = [dq_.MAP]
    owners: dict[str, list[Contender]] = {}
    for name in peers.OUTSIDE:
        module = peers.load(name)
        reason = module.available()
        if reason is not None:
            reasons[name.rstrip("_")] = reason
            continue
        owners[name.rstrip("_")] = module.CONTENDERS
        contenders += module.CONTENDERS
    counts = {c.name: options.pick(min(c.noops, 50), c.noops) for c in contenders}
    samples = collect(
        [(c.name, functools.partial(_noops, c, counts[c.name])) for c in contenders],
        options.repeats,
    )
    rows = []
    ours = {what: samples.median(dq_.MAP.name, what) for what in ("steady", "whole")}
    for contender in contenders:
        name = contender.name
        if name in samples.reasons:
            rows.append([name, samples.reasons[name]])
            continue
        cells = [name, stats.show_count(counts[name])]
        for what in ("steady", "whole"):
            rate = samples.median(name, what)
            cells += [stats.show_count(rate), stats.show_ratio(stats.ratio(ours[what], rate))]
        rows.append(cells)
    rows += [[name, reason] for name, reason in reasons.items()]
    goals = [
        Goal(f"dq, times {name} at its best", _times(samples, ours["steady"], settings), 1.0)
        for name, settings in owners.items()
    ]
    for name, times in FARAHEAD.items():
        single = [c for c in owners.get(name, []) if c.default]
        goals.append(
            Goal(f"dq, times {name} task by task", _times(samples, ours["steady"], single), times)
        )
    title = f"No-op tasks a second, other toolkits, {WORKERS} workers, median of {options.repeats}"
    columns = ["", "tasks", "steady/s", "dq is x", "start to stop/s", "dq is x"]
    notes = ["Steady: from the first submitted to the last result there, with workers warm."]
    yield Table(title, columns, rows, samples.figures, notes, goals)


def _times(samples: Samples, ours: float, theirs: list[Contender]) -> float:
    return stats.ratio(ours, samples.best((c.name for c in theirs), "steady"))


def _noops(contender: Contender, count: int) -> Sample:
    expected = [x * x for x in range(count)]
    return throughput.sample(
        contender, functions.square, range(min(100, count)), range(count), lambda: expected
    )
