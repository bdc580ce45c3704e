"""A thousand connected task slots: the master's memory, its throughput, the time to connect."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from benchmarks import stats
from benchmarks.measure import Options, Sample, collect
from benchmarks.report import Goal, Table
from benchmarks.simulated_slots import KEY, work_for

SECONDS = 0.1  # of a nap
MASTER = f"""
import sys, time
import dq

def resident():
    for line in open("/proc/self/status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024

with dq.Master(host="127.0.0.1", port=0, authkey={KEY!r}) as master:
    print(master.address[1], flush=True)
    sys.stdin.readline()
    count = int(sys.argv[1])
    started = time.perf_counter()
    done = sum(1 for _ in master.map("math:sqrt", range(count)))
    print(time.perf_counter() - started, resident(), flush=True)
    assert done == count
"""


def measure(options: Options) -> Iterator[Table]:
    many = options.pick(100, 1_000)
    noops = options.pick(20_000, 100_000_000)
    naps = options.pick(5, 100) * many
    contenders = {
        (slots, seconds): functools.partial(_run, slots, count, seconds)
        for slots, seconds, count in (
            (2, 0.0, noops),
            (many, 0.0, noops),
            (many, SECONDS, naps),
        )
    }
    samples = collect(
        [(f"{slots} {seconds}", call) for (slots, seconds), call in contenders.items()],
        options.repeats,
    )
    rows = []
    for slots, seconds in contenders:
        name = f"{slots} {seconds}"
        what = f"dq: {slots} slots, " + (
            f"naps of {SECONDS * 1e3:g} ms" if seconds else "no-op tasks"
        )
        if name in samples.reasons:
            rows.append([what, samples.reasons[name]])
            continue
        rows.append(
            [
                what,
                stats.show_count(samples.median(name, "rate")),
                stats.show_seconds(samples.median(name, "connect")),
                stats.show_bytes(samples.median(name, "rss")),
            ]
        )
    few, lots, asleep = (f"{slots} {seconds}" for slots, seconds in contenders)
    goals = [
        Goal(
            f"{many} slots' rate of no-op tasks, of 2 slots'",
            stats.ratio(samples.median(lots, "rate"), samples.median(few, "rate")),
            0.8,
        ),
        Goal(
            "the master's resident memory, in MiB",
            max(samples.median(name, "rss") for name in (lots, asleep)) / 2**20,
            150,
            at_least=False,
        ),
        Goal(
            f"seconds until all {many} are connected",
            samples.median(lots, "connect"),
            10,
            at_least=False,
        ),
    ]
    title = f"{many} connected slots that speak dq's wire, in one process; {noops:,} no-op tasks"
    columns = ["", "tasks/s", "connect", "master's memory"]
    yield Table(f"{title}, median of {options.repeats}", columns, rows, samples.figures, (), goals)


def _run(slots: int, count: int, seconds: float) -> Sample:
    work = work_for(MASTER, count, slots=slots, seconds=seconds)
    took, resident = work.figures
    return {"rate": count / took, "connect": work.connect, "rss": resident}
