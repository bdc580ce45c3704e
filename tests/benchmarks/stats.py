"""The arithmetic of the benchmarks: pure, and tested in tests/unit/test_benchmarks.py."""

from __future__ import annotations

import heapq
import math
import random
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def median(values: Iterable[float]) -> float:
    """The median; NaN of nothing.

    >>> median([3, 1, 2]), median([1, 2])
    (2, 1.5)
    """
    values = list(values)
    return statistics.median(values) if values else math.nan


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` per cent of all are not above.

    >>> percentile([10, 20, 30, 40], 50), percentile([10, 20, 30, 40], 99)
    (20, 40)
    """
    if not values:
        return math.nan
    rank = math.ceil(len(values) * percent / 100)
    return sorted(values)[max(rank, 1) - 1]


def interleaved(items: Sequence[T], repeats: int) -> Iterator[tuple[int, T]]:
    """A B C C B A A B C …, so that whatever else the machine does falls on all alike, and nobody
    always comes after the same one, whose memory the system has just taken back.

    >>> list(interleaved("AB", 2))
    [(0, 'A'), (0, 'B'), (1, 'B'), (1, 'A')]
    """
    return (
        (repeat, item) for repeat in range(repeats) for item in items[:: -1 if repeat % 2 else 1]
    )


def ratio(value: float, base: float) -> float:
    """`value` over `base`; NaN where there is no base.

    >>> ratio(3, 2), ratio(1, 0)
    (1.5, nan)
    """
    return value / base if base else math.nan


def bound(durations: Sequence[float], slots: int) -> float:
    """Seconds that no schedule of these tasks can be shorter than.

    >>> bound([1, 1, 1, 1], 2), bound([5, 1], 2)
    (2.0, 5)
    """
    return max(sum(durations) / slots, max(durations, default=0.0))


def list_schedule(durations: Sequence[float], slots: int) -> float:
    """The makespan when whoever is free takes the next task: the best that anybody can do who
    does not know how long tasks take, in this order.

    >>> list_schedule([1, 1, 2], 2), list_schedule([2, 1, 1], 2)
    (3.0, 2.0)
    """
    free = [0.0] * slots
    for duration in durations:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


def heavy_tail(
    count: int, total: float, *, longest: float = 100.0, alpha: float = 1.5, seed: int = 1
) -> list[float]:
    """Durations from a Pareto distribution, shuffled, that sum up to `total`.

    The longest is `longest` times the mean, exactly once; what is drawn above that is cut off.

    >>> tail = heavy_tail(1000, 5.0)
    >>> round(sum(tail), 6), round(max(tail) / (sum(tail) / 1000), 6)
    (5.0, 100.0)
    """
    longest = min(longest, count / 2)
    rng = random.Random(seed)
    mean = total / count
    top = longest * mean
    rest = [rng.paretovariate(alpha) for _ in range(count - 1)]
    # What is cut off changes the mean, and so what is cut off: a few rounds settle it.
    for _ in range(100):
        scale = (total - top) / sum(rest)
        rest = [min(value * scale, top * 0.999) for value in rest]
    durations = [*rest, top]
    rng.shuffle(durations)
    return durations


def mixed(count: int, few: int, seconds: float, *, seed: int = 1) -> list[float]:
    """`count` durations of 0 with `few` of `seconds` hidden among them.

    >>> hidden = mixed(100, 3, 2.0)
    >>> len(hidden), hidden.count(2.0), hidden.count(0.0)
    (100, 3, 97)
    """
    durations = [0.0] * count
    for place in random.Random(seed).sample(range(count), few):
        durations[place] = seconds
    return durations


def show_count(number: float) -> str:
    """
    >>> show_count(1_234_567), show_count(2_500_000), show_count(4321), show_count(math.nan)
    ('1.23 M', '2.5 M', '4.32 k', '-')
    """
    if math.isnan(number):
        return "-"
    for unit, size in ((" G", 1e9), (" M", 1e6), (" k", 1e3)):
        if abs(number) >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def show_seconds(seconds: float) -> str:
    """
    >>> show_seconds(0.000123), show_seconds(0.0442), show_seconds(2)
    ('123 µs', '44.2 ms', '2 s')
    """
    if math.isnan(seconds):
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def show_bytes(number: float) -> str:
    """
    >>> show_bytes(5 * 2**20), show_bytes(1500)
    ('5 MiB', '1.46 KiB')
    """
    if math.isnan(number):
        return "-"
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(number) >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g} B"


def show_ratio(number: float) -> str:
    """
    >>> show_ratio(0.1234), show_ratio(12.34), show_ratio(math.nan)
    ('0.123', '12.3', '-')
    """
    return "-" if math.isnan(number) else f"{number:.3g}" if number < 1000 else f"{number:.0f}"
