"""What `ideal`, `heavy_tail` and `mixed` share: runs of naps, against what no schedule can beat."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence

from benchmarks import functions, stats
from benchmarks.measure import WORKERS, Contender, Options, Sample, Samples, collect
from benchmarks.peers import dq_, executor, pool

LINEUP = [dq_.MAP, dq_.STREAM, pool.contender(1), pool.contender(10), executor.contender(1)]


def run(durations: Sequence[float], options: Options, lineup: Sequence[Contender]) -> Samples:
    """Everybody's figures for tasks that sleep so long, in this order."""
    return collect(
        [(c.name, functools.partial(_run, c, durations)) for c in lineup], options.repeats
    )


def _run(contender: Contender, durations: Sequence[float]) -> Sample:
    with contender.session(functions.stamped_nap, WORKERS) as run:
        for _ in run([0.001] * 4 * WORKERS):
            pass
        taken: list[float] = []
        held = 0.0
        started = time.monotonic()
        for took, over in run(durations):
            taken.append(took)
            if took < 0.1:
                held = max(held, time.monotonic() - over)
        makespan = time.monotonic() - started
    if len(taken) != len(durations):
        raise AssertionError(f"{len(taken)} values for {len(durations)} inputs")
    # Sleeps are a little longer than asked for: the bound is of what they really were.
    return {"makespan": makespan, "stretch": makespan / stats.bound(taken, WORKERS), "held": held}


def rows(samples: Samples, lineup: Sequence[Contender], *columns: str) -> list[list[str]]:
    return [_row(samples, contender.name, columns) for contender in lineup]


def _row(samples: Samples, name: str, columns: Sequence[str]) -> list[str]:
    if name in samples.reasons:
        return [name, samples.reasons[name]]
    show: dict[str, Callable[[float], str]] = {
        "makespan": stats.show_seconds,
        "held": stats.show_seconds,
        "stretch": lambda stretch: f"{stretch:.4f}",
        "share": lambda share: f"{share:.2%}",
    }
    return [name, *(show[what](samples.median(name, what)) for what in columns)]
