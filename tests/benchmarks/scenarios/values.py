"""No-op tasks a second by what goes there and back: texts, rows, rows in rows, objects."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy

from benchmarks import stats
from benchmarks.functions import COLORS, FrozenPoint, NamedPoint, Point, nothing, same
from benchmarks.measure import WORKERS, Contender, Function, Options, Sample, collect, timed
from benchmarks.peers import dq_, pool
from benchmarks.report import Goal, Table

START = datetime.datetime(2000, 1, 1)
KINDS: dict[str, tuple[Function, Callable[[int], Any]]] = {
    "numbers, no result": (nothing, lambda n: n),
    "fractions": (same, lambda n: n / 7),
    "texts": (same, lambda n: f"text {n}"),
    "tuples": (same, lambda n: (n, n + 1)),
    "lists": (same, lambda n: [n, "text"]),
    "dicts": (same, lambda n: {"id": n, "name": "text"}),
    "dicts with lists": (same, lambda n: {"id": n, "tags": ["text"]}),
    "dicts of ten fields": (same, lambda n: {f"field {k}": f"text {n + k}" for k in range(10)}),
    "tuples with dates": (same, lambda n: (n, START + datetime.timedelta(n))),
    "objects of a class": (same, lambda n: Point(n, n + 1)),
    "frozen dataclasses": (same, lambda n: FrozenPoint(n, n + 1)),
    "named tuples": (same, lambda n: NamedPoint(n, n + 1)),
    "enumerations": (same, lambda n: COLORS[n % 3]),
    "NumPy's numbers": (same, lambda n: numpy.float64(n / 7)),
}


def measure(options: Options) -> Iterator[Table]:
    count = options.pick(200, 500_000)
    pools = [one for one in pool.CONTENDERS if one.noops >= 1_000_000]  # slower ones are never best
    contenders = {
        (kind, one.name): functools.partial(_run, one, kind, count)
        for kind in KINDS
        for one in (dq_.MAP, *pools)
    }
    samples = collect(
        [(f"{kind} {name}", call) for (kind, name), call in contenders.items()], options.repeats
    )
    rows, goals = [], []
    for kind in KINDS:
        name, what = f"{kind} {dq_.MAP.name}", f"dq (map): {kind}"
        if name in samples.reasons:
            rows.append([what, samples.reasons[name]])
            continue
        ours = samples.median(name, "rate")
        best = samples.best((f"{kind} {one.name}" for one in pools), "rate")
        share = stats.ratio(ours, best)
        rows.append(
            [
                what,
                stats.show_count(ours),
                stats.show_count(best),
                stats.show_ratio(share),
            ]
        )
        goals.append(Goal(f"dq, of Pool's best: {kind}", share, 1.0))
    yield Table(
        f"{count:,} no-op tasks by their values, {WORKERS} workers, median of {options.repeats}",
        ["", "tasks/s", "best Pool", "x best Pool"],
        rows,
        samples.figures,
        ["Steady state, inputs from a list; Pool's best of chunks 100, 1000 and 4096."],
        goals,
    )


def _run(contender: Contender, kind: str, count: int) -> Sample:
    function, make = KINDS[kind]
    inputs: Sequence[Any] = [make(n) for n in range(count)]
    with contender.session(function, WORKERS) as run:
        for _ in run(inputs[:2_000]):
            pass
        seconds, values = timed(lambda: sum(1 for _ in run(inputs)))
    assert values == count
    return {"rate": count / seconds}
