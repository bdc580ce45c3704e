"""Tasks a second: dq against the standard library, for no-op and for 10 ms tasks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from benchmarks import functions, peers, stats
from benchmarks.measure import (
    WORKERS,
    Contender,
    Function,
    Options,
    Sample,
    Samples,
    check,
    collect,
    timed,
)
from benchmarks.peers import dq_, pool
from benchmarks.report import Goal, Table

WARM = 2_000  # no-op tasks that go before those of which the time is taken


def measure(options: Options) -> Iterator[Table]:
    contenders = [c for name in peers.STANDARD for c in peers.load(name).CONTENDERS]
    yield noops(contenders, options)
    yield naps(contenders, options)


def noops(contenders: Sequence[Contender], options: Options) -> Table:
    counts = {c.name: options.pick(min(c.noops, 500), c.noops) for c in contenders}
    samples = collect(
        [(c.name, functools.partial(_noops, c, counts[c.name])) for c in contenders],
        options.repeats,
    )
    title = f"No-op tasks (x * x) a second, {WORKERS} workers, median of {options.repeats}"
    goals = [Goal("dq, of Pool's best, in steady state", _share(samples, "steady"), 1.0)]
    return table(title, contenders, counts, samples, goals)


def naps(contenders: Sequence[Contender], options: Options) -> Table:
    count = options.pick(10, 200)
    seconds = 0.01
    samples = collect(
        [(c.name, functools.partial(_naps, c, count, seconds)) for c in contenders],
        options.repeats,
    )
    title = f"10 ms tasks a second ({WORKERS / seconds:.0f} is ideal), {WORKERS} workers"
    counts = dict.fromkeys((c.name for c in contenders), count)
    return table(title, contenders, counts, samples, [])


def _noops(contender: Contender, count: int) -> Sample:
    warm = range(min(WARM, count))
    return sample(
        contender, functions.square, warm, range(count), lambda: (x * x for x in range(count))
    )


def _naps(contender: Contender, count: int, seconds: float) -> Sample:
    return sample(contender, functions.nap, [0.0] * 4 * WORKERS, [seconds] * count, None)


def sample(
    contender: Contender,
    function: Function,
    warm: Iterable[Any],
    inputs: Sequence[Any],
    expected: Callable[[], Iterable[Any]] | None,
) -> Sample:
    """Tasks a second in steady state, and with starting and stopping included."""
    with contender.session(function, WORKERS) as run:
        for _ in run(warm):
            pass
        steady, values = timed(lambda: list(run(inputs)))
    whole, again = timed(lambda: contender.run_whole(function, inputs))
    for got in (values, again):
        if expected is not None:
            check(got, expected)
        elif len(got) != len(inputs):
            raise AssertionError(f"{len(got)} values for {len(inputs)} inputs")
    return {"steady": len(inputs) / steady, "whole": len(inputs) / whole}


def table(
    title: str,
    contenders: Sequence[Contender],
    counts: dict[str, int],
    samples: Samples,
    goals: Sequence[Goal],
) -> Table:
    """Everybody's rates, and their ratios to the best of Pool's."""
    best = {what: _best_pool(samples, what) for what in ("steady", "whole")}
    rows = []
    for contender in contenders:
        name = contender.name
        if name in samples.reasons:
            rows.append([name, samples.reasons[name]])
            continue
        cells = [name, stats.show_count(counts[name])]
        for what in ("steady", "whole"):
            rate = samples.median(name, what)
            cells += [stats.show_count(rate), stats.show_ratio(stats.ratio(rate, best[what]))]
        rows.append(cells)
    columns = ["", "tasks", "steady/s", "x best Pool", "start to stop/s", "x best Pool"]
    return Table(title, columns, rows, samples.figures, (), goals)


def _best_pool(samples: Samples, what: str) -> float:
    return samples.best((c.name for c in pool.CONTENDERS), what)


def _share(samples: Samples, what: str) -> float:
    return stats.ratio(samples.median(dq_.MAP.name, what), _best_pool(samples, what))
