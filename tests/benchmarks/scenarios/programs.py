"""Tasks that are programs: `dq run` of a function that runs `true`, and GNU parallel and others."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks import peers, stats
from benchmarks.measure import WORKERS, Options, Sample, collect, timed
from benchmarks.report import Goal, Table
from support import free_port


@dataclass(frozen=True)
class Program:
    """A command that runs `true` for each line of its standard input.

    "PORT" in it stands for a free one.
    """

    name: str
    argv: list[str]
    where: str = ""
    module: str = ""

    def available(self) -> str | None:
        if self.module and (reason := peers.missing(self.module)):
            return reason
        if _find(self.argv[0]) is None:
            return f"no program {self.argv[0]} here ({self.where})"
        return None


def _find(program: str) -> str | None:
    """Where a program is: beside this interpreter or on the path."""
    beside = os.path.dirname(sys.executable)
    return shutil.which(program, path=os.pathsep.join([beside, os.environ.get("PATH", "")]))


JOBS = str(WORKERS)
HYPERSHELL = ["hs", "cluster", "-N", JOBS, "-t", "true", "-p", "PORT", "--no-db"]
DQ = Program(
    "dq run",
    [sys.executable, "-m", "dq", "run", "benchmarks.functions:run_true", "-q"]
    + ["-w", JOBS, "--input", "-"],
)
OTHERS = [
    Program("GNU parallel", ["parallel", "-j", JOBS, "true"], "Debian: parallel"),
    Program("xargs -P", ["xargs", "-n1", "-P", JOBS, "true"], "findutils"),
    Program("HyperShell, no database", HYPERSHELL, "PyPI: hypershell"),
    Program(
        "HyperShell, bundles of 50, no TLS, no confirmation",
        [*HYPERSHELL, "--no-confirm", "--no-tls", "-b", "50", "-w", "1"],
        "PyPI: hypershell",
    ),
    Program(
        "HyperQueue, through its Python interface",
        [sys.executable, "-m", "benchmarks.peers.hyperqueue_programs", JOBS],
        module="hyperqueue",
    ),
]


def measure(options: Options) -> Iterator[Table]:
    count = options.pick(10, 500)
    reasons = {p.name: reason for p in OTHERS if (reason := p.available()) is not None}
    present = [DQ, *(p for p in OTHERS if p.name not in reasons)]
    samples = collect(
        [(p.name, functools.partial(_run, p, count)) for p in present], options.repeats
    )
    ours = samples.median(DQ.name, "rate")
    rows = []
    for program in (DQ, *OTHERS):
        reason = reasons.get(program.name) or samples.reasons.get(program.name)
        if reason:
            rows.append([program.name, reason])
            continue
        rate = samples.median(program.name, "rate")
        rows.append(
            [program.name, stats.show_count(rate), stats.show_ratio(stats.ratio(ours, rate))]
        )
    title = f"{count} times the program `true`, everything included, median of {options.repeats}"
    goals = [
        Goal(f"dq, times {name}", stats.ratio(ours, samples.median(name, "rate")), 1.0)
        for name in (program.name for program in OTHERS)
        if name != "xargs -P"
    ]
    yield Table(title, ["", "programs/s", "dq is x"], rows, samples.figures, (), goals)


def _run(program: Program, count: int) -> Sample:
    lines = "".join(f"{n}\n" for n in range(count))
    port = str(free_port())
    argv = [_find(program.argv[0]) or program.argv[0], *program.argv[1:]]
    argv = [port if word == "PORT" else word for word in argv]
    seconds, done = timed(
        lambda: subprocess.run(argv, input=lines, capture_output=True, text=True, check=False)
    )
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr[-200:]}")
    return {"rate": count / seconds}
