"""What a journal costs: the same command with and without one, and served again from it."""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import stats
from benchmarks.measure import WORKERS, Options, Sample, collect, timed
from benchmarks.report import Goal, Table

NAP = 0.01


def measure(options: Options) -> Iterator[Table]:
    count, naps = options.pick(2_000, 1_000_000), options.pick(20, 1_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "noop.txt").write_text("".join(f"{n}\n" for n in range(count)))
        (folder / "nap.txt").write_text(f"{NAP}\n" * naps)
        yield _measure(folder, count, naps, options.repeats)


def _measure(folder: Path, count: int, naps: int, repeats: int) -> Table:
    kinds = {
        "noop": f"{count:,} no-op tasks",
        "nap": f"{naps:,} tasks of {NAP * 1e3:g} ms",
    }
    samples = collect([(kind, functools.partial(_sample, folder, kind)) for kind in kinds], repeats)
    rows, goals = [], []
    for kind, what in kinds.items():
        plain, kept, again = (
            samples.median(kind, how) for how in ("without", "with", "served again")
        )
        rows.append(
            [
                f"dq run, {what}",
                *map(stats.show_seconds, (plain, kept)),
                stats.show_ratio(stats.ratio(kept, plain)),
                stats.show_seconds(again),
            ]
        )
    noop, nap = (
        stats.ratio(samples.median(kind, "with"), samples.median(kind, "without")) for kind in kinds
    )
    goals = [
        Goal("no-op tasks with a journal, of without", noop, 2, at_least=False),
        Goal("tasks of 10 ms with a journal, of without", nap, 1.05, at_least=False),
        Goal(
            "seconds to serve no-op tasks again",
            samples.median("noop", "served again"),
            2,
            at_least=False,
        ),
    ]
    title = f"dq run --input FILE -o FILE -w {WORKERS}, median of {repeats}"
    columns = ["", "without", "--journal", "x without", "served again"]
    return Table(title, columns, rows, samples.figures, (), goals)


def _sample(folder: Path, kind: str) -> Sample:
    journal = folder / "journal"
    for path in folder.glob("journal*"):
        path.unlink()
    task = {"noop": "benchmarks.functions:square", "nap": "benchmarks.functions:nap"}[kind]
    argv = [sys.executable, "-m", "dq", "run", task, "-w", str(WORKERS), "-q"]
    argv += ["--input", str(folder / f"{kind}.txt"), "-o", str(folder / "out.txt")]
    kept = [*argv, "--journal", str(journal)]
    return {
        how: timed(functools.partial(subprocess.run, command, check=True))[0]
        for how, command in (("without", argv), ("with", kept), ("served again", kept))
    }
