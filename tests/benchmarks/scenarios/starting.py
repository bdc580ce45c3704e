"""What a command takes before it does anything: start-up, beside Python's, click's, a pool's."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

from benchmarks import stats
from benchmarks.measure import Options, Sample, collect, timed
from benchmarks.report import Goal, Table

CLICK = """
import click

@click.command()
@click.option("--name", help="Who.")
def main(name):
    "A program with one option."

main(["--help"])
"""
POOL = """
from concurrent.futures import ProcessPoolExecutor
import math

if __name__ == "__main__":
    with ProcessPoolExecutor(2) as pool:
        print(pool.submit(math.sqrt, 4).result())
"""
PYTHON = "python -c pass"
BARE = "a bare click program's --help"
IMPORT = "dq: python -c 'import dq'"
HELP = "dq --help"
EXECUTOR = "a script with ProcessPoolExecutor(2)"
RUN_ONE = "dq run math:sqrt 4 -w 1"
RUN = "dq run math:sqrt 4"
COMMANDS: dict[str, Sequence[str]] = {
    PYTHON: ("-c", "pass"),
    BARE: ("-c", CLICK),
    IMPORT: ("-c", "import dq"),
    HELP: ("-m", "dq", "--help"),
    EXECUTOR: ("-c", POOL),
    RUN_ONE: ("-m", "dq", "run", "math:sqrt", "4", "-w", "1", "-q"),
    RUN: ("-m", "dq", "run", "math:sqrt", "4", "-q"),
}


def measure(options: Options) -> Iterator[Table]:
    times = options.pick(1, 10)
    # As installed, that is compiled: some images tell Python not to write what it has compiled.
    for argv in COMMANDS.values():
        _run(argv)
    samples = collect(
        [(name, functools.partial(_sample, argv, times)) for name, argv in COMMANDS.items()],
        options.repeats,
    )
    base = samples.median(PYTHON, "seconds")
    rows = []
    for name in COMMANDS:
        seconds = samples.median(name, "seconds")
        rows.append([name, stats.show_seconds(seconds), stats.show_ratio(seconds / base)])
    bare = samples.median(BARE, "seconds")
    goals = [
        Goal(f"{name}, of {BARE}", samples.median(name, "seconds") / bare, 1.3, at_least=False)
        for name in (IMPORT, HELP)
    ]
    goals += [
        Goal(
            f"{name}, of starting Python twice",
            samples.median(name, "seconds") / (2 * base),
            2,
            at_least=False,
        )
        for name in (RUN_ONE, RUN)
    ]
    script = samples.median(EXECUTOR, "seconds")
    goals += [
        Goal(f"{name}, of {EXECUTOR}", samples.median(name, "seconds") / script, 1.3, False)
        for name in (RUN_ONE, RUN)
    ]
    title = f"Whole commands, median of {options.repeats} x {times}"
    yield Table(title, ["", "takes", "x python"], rows, samples.figures, (), goals)


def _sample(argv: Sequence[str], times: int) -> Sample:
    """The quickest is what it takes; the others were disturbed."""
    return {"seconds": min(timed(functools.partial(_run, argv))[0] for _ in range(times))}


def _run(argv: Sequence[str]) -> None:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, *argv], check=True, env=env, stdout=subprocess.DEVNULL)
