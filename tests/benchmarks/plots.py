"""The plots of docs/performance: measured into a JSON file, and drawn from it.

cd tests && python -m benchmarks.plots --measure      # some minutes
cd tests && python -m benchmarks.plots                # only draw again
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import stats, svg
from benchmarks.measure import WORKERS, Contender, Sample, collect
from benchmarks.peers import dq_, executor, pool
from benchmarks.report import machine
from benchmarks.scenarios import latency
from benchmarks.svg import Axis, around

FOLDER = Path(__file__).parents[2] / "docs" / "performance"
DATA = FOLDER / "curves.json"
REPEATS = 3
Lines = dict[str, list[tuple[float, float]]]

DURATIONS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
LINEUP = [dq_.MAP, pool.contender(1), pool.contender(100), executor.contender(1)]
CALLS = {
    "dq, Executor.submit": latency.dq_executor,
    "dq, put and get": latency.dq_plain,
    "ProcessPoolExecutor": latency.executor,
    "the recipe, put and get": latency.recipe_raw,
}


def spin(seconds: float) -> None:
    """Keep a CPU busy: shorter than what `time.sleep` can do."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


# Measuring


def throughput() -> Lines:
    """Tasks a second against how long each takes; two workers."""
    lines: Lines = {}
    for duration in DURATIONS:
        samples = collect(
            [(c.name, functools.partial(_rate, c, duration)) for c in LINEUP], REPEATS
        )
        for contender in LINEUP:
            rate = samples.median(contender.name, "rate")
            lines.setdefault(contender.name, []).append((duration, rate))
    return lines


def _rate(contender: Contender, duration: float) -> Sample:
    ideal = WORKERS / duration
    count = max(20, int(min(ideal, contender.noops, 200_000)))
    with contender.session(spin, WORKERS) as run:
        for _ in run([0.0] * 8 * WORKERS):
            pass
        started = time.perf_counter()
        for _ in run([duration] * count):
            pass
        return {"rate": count / (time.perf_counter() - started)}


def latencies(count: int = 1000) -> Lines:
    """The share of single tasks that took no longer than so many seconds."""
    lines: Lines = {}
    for name, session in CALLS.items():
        with session() as call:
            for n in range(latency.WARM):
                call(n)
            times = sorted(_timed(functools.partial(call, n)) for n in range(count))
        lines[name] = [(stats.percentile(times, p), float(p)) for p in range(1, 101)]
    return lines


def _timed(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


MEASURED = {"throughput": throughput, "latency": latencies}


# Drawing


def draw(data: dict[str, Any]) -> dict[str, str]:
    """The text of each file, by its name."""
    about = data["machine"]
    note = f"{about['cpus']}, Python {about['python'].split()[-1]}, {about['date'][:10]}"
    rates = data["throughput"]
    tasks = [y for line in rates.values() for _, y in line if y > 0]
    times = [x for line in data["latency"].values() for x, _ in line]
    return {
        "throughput.svg": svg.plot(
            f"Tasks a second, {WORKERS} workers",
            Axis("a task takes", DURATIONS[0], DURATIONS[-1], show=stats.show_seconds),
            around(tasks, "tasks/s", stats.show_count),
            {**rates, "ideal on as many CPUs": [(d, WORKERS / d) for d in DURATIONS]},
            note,
        ),
        "latency.svg": svg.plot(
            "One no-op task there and back",
            around(times, "takes up to", stats.show_seconds),
            Axis("per cent of them", 0, 100, log=False),
            data["latency"],
            note,
        ),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plots", description=__doc__)
    parser.add_argument("--measure", action="append", nargs="?", const="all", metavar="WHICH")
    given = parser.parse_args()
    data: dict[str, Any] = json.loads(DATA.read_text()) if DATA.exists() else {}
    FOLDER.mkdir(exist_ok=True)
    for name, measure in MEASURED.items():
        if {name, "all"} & set(given.measure or ()):
            data |= {name: measure(), "machine": machine()}
            DATA.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    for name, text in draw(data).items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(FOLDER / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
