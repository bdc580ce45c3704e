"""A master at the other end of a link with a delay, against the same link without one."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence

import dq
from benchmarks import stats
from benchmarks.measure import WORKERS, Options, Sample, collect, piped, timed
from benchmarks.report import Goal, Table

KEY = b"a key for measurements only"
DELAYS = (0.0, 0.001, 0.01, 0.1)  # seconds each way
# In a process of its own: at rates like these it takes half a CPU.
PROXY = """
import sys
from support import FaultProxy

with FaultProxy(("127.0.0.1", int(sys.argv[1]))) as proxy:
    proxy.delay(float(sys.argv[2]))
    print(proxy.address[1], flush=True)
    sys.stdin.read()
"""


def measure(options: Options) -> Iterator[Table]:
    kinds = {
        "no-op": ("math:sqrt", range(options.pick(2_000, 20_000_000))),
        "no-op, a short run": ("math:sqrt", range(options.pick(1_000, 4_000_000))),
        "1 ms": ("time:sleep", [0.001] * options.pick(50, 10_000)),
    }
    contenders = {
        (kind, delay): functools.partial(_run, *kinds[kind], delay)
        for kind, delay in itertools.product(kinds, DELAYS)
    }
    samples = collect(
        [(f"{kind} {delay}", call) for (kind, delay), call in contenders.items()], options.repeats
    )
    rows = []
    for kind, (_, inputs) in kinds.items():
        base = samples.median(f"{kind} 0.0", "rate")
        for delay in DELAYS:
            name = f"{kind} {delay}"
            what = f"dq: {len(inputs):,} tasks, {kind}; {delay * 1e3:g} ms each way"
            if name in samples.reasons:
                rows.append([what, samples.reasons[name]])
                continue
            rate = samples.median(name, "rate")
            rows.append([what, stats.show_count(rate), stats.show_ratio(stats.ratio(rate, base))])
    goals = [
        Goal(
            f"{kind} tasks, 10 ms away, of the rate nearby",
            stats.ratio(
                samples.median(f"{kind} 0.01", "rate"), samples.median(f"{kind} 0.0", "rate")
            ),
            0.9,
        )
        for kind in kinds
    ]
    yield Table(
        f"{WORKERS} workers behind a proxy that delays, median of {options.repeats}",
        ["", "tasks/s", "x no delay"],
        rows,
        samples.figures,
        ["Start to stop, connected workers; all through the same proxy."],
        goals,
    )


def _run(task: str, inputs: Sequence[float], delay: float) -> Sample:
    with (
        dq.Master(host="127.0.0.1", port=0, authkey=KEY) as master,
        piped("-c", PROXY, str(master.address[1]), str(delay)) as proxy,
    ):
        port = int(proxy.stdout.readline())
        script = (
            f"import dq; dq.run_worker('127.0.0.1', {port}, authkey={KEY!r}, processes={WORKERS})"
        )
        with piped("-c", script):
            list(master.map("math:sqrt", range(WORKERS)))
            while master.runtime.dispatcher.slots < WORKERS:
                list(master.map("math:sqrt", range(WORKERS)))
            seconds, values = timed(lambda: sum(1 for _ in master.map(task, inputs)))
            assert values == len(inputs)
            master.close()
    return {"rate": len(inputs) / seconds}
