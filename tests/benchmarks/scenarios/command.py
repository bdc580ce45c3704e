"""The command: lines of a file in, lines of a file out, everything included."""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import functions, stats
from benchmarks.measure import WORKERS, Options, Sample, collect, timed
from benchmarks.peers import pool
from benchmarks.report import Goal, Table

CHUNKS = (1, 10, 100, 1000, 4096)
SLOW = {1: 40_000, 10: 300_000}  # lines that these chunk sizes get, so as not to take minutes
DQ = f"dq run --input FILE -o FILE -w {WORKERS}"
IN_MEMORY = "Pool.imap_unordered, chunk 4096, no files, steady"
UNORDERED = f"{DQ} --unordered"
RUN = [sys.executable, "-m", "dq", "run", "benchmarks.functions:square", "-w", str(WORKERS), "-q"]
RUN += ["--input", "{}", "-o", "{}"]


def measure(options: Options) -> Iterator[Table]:
    count = options.pick(1_000, 1_000_000)
    with tempfile.TemporaryDirectory() as folder:
        yield _measure(Path(folder), count, options.repeats)


def _measure(folder: Path, count: int, repeats: int) -> Table:
    commands = {DQ: RUN, UNORDERED: [*RUN, "--unordered"]}
    counts = dict.fromkeys(commands, count)
    for chunk in CHUNKS:
        name = f"Pool.imap from file to file, chunk {chunk}"
        commands[name] = [sys.executable, "-m", "benchmarks.peers.pool_files", "{}", "{}"]
        commands[name] += [str(chunk), str(WORKERS)]
        counts[name] = min(count, SLOW.get(chunk, count))
    loop = "one process, a plain loop"
    commands[loop] = [sys.executable, "-m", "benchmarks.peers.pool_files", "{}", "{}", "0", "0"]
    counts[loop] = count
    for size in set(counts.values()):
        (folder / f"{size}.txt").write_text("".join(f"{n}\n" for n in range(size)))
    measured = [
        (name, functools.partial(_run, folder, commands[name], counts[name])) for name in commands
    ]
    counts[IN_MEMORY] = count
    samples = collect([*measured, (IN_MEMORY, functools.partial(_pool_in_memory, count))], repeats)
    pools = [name for name in commands if name.startswith("Pool")]
    best = samples.best(pools, "rate")
    rows = [
        [name, samples.reasons[name]]
        if name in samples.reasons
        else [
            name,
            stats.show_count(counts[name]),
            stats.show_count(samples.median(name, "rate")),
            stats.show_ratio(stats.ratio(samples.median(name, "rate"), best)),
        ]
        for name in counts
    ]
    title = f"The command line: lines a second from file to file, median of {repeats}"
    notes = [
        "Everything included: starting the interpreter, reading, parsing JSON, printing, the end.",
        "dq's default is the inputs' order, and so is imap's.",
    ]
    goals = [
        Goal("dq, of Pool's best with the same files", samples.median(DQ, "rate") / best, 1.0),
        Goal(
            "dq, of Pool without files",
            samples.median(DQ, "rate") / samples.median(IN_MEMORY, "rate"),
            0.2,
        ),
        Goal("dq, lines a second", samples.median(DQ, "rate"), 500_000),
    ]
    return Table(
        title, ["", "lines", "lines/s", "x best Pool"], rows, samples.figures, notes, goals
    )


def _pool_in_memory(count: int) -> Sample:
    """The rate that has neither parsing nor printing in it."""
    with pool.contender(4096).session(functions.square, WORKERS) as run:
        list(run(range(1000)))
        seconds, _ = timed(lambda: list(run(range(count))))
    return {"rate": count / seconds}


def _run(folder: Path, command: list[str], count: int) -> Sample:
    """Put the files' names in, run the command, look at what it wrote."""
    source, target = folder / f"{count}.txt", folder / "results.txt"
    files = iter([str(source), str(target)])
    argv = [next(files) if part == "{}" else part for part in command]
    seconds, done = timed(lambda: subprocess.run(argv, capture_output=True, text=True, check=False))
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr[-200:]}")
    if sorted(map(int, target.read_text().split())) != [n * n for n in range(count)]:
        raise AssertionError("what it wrote is not what was to come")
    target.unlink()
    return {"rate": count / seconds}
