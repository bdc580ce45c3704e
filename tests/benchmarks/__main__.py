"""Run benchmarks and print their tables.

cd tests && python -m benchmarks --repeats 5 --json results.json
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from benchmarks import peers, scenarios
from benchmarks.measure import Options
from benchmarks.report import load, machine


def main() -> int:
    given = _arguments()
    if given.list:
        width = max(map(len, scenarios.NAMES))
        for name in scenarios.NAMES:
            print(f"{name:{width}}  {scenarios.about(name)}")
        return 0
    size = "quick" if given.quick else "full" if given.full else "normal"
    options = Options(size, given.repeats or (1 if given.quick else 5))
    found: dict[str, object] = {"machine": _introduce(size)}
    for name in given.only or scenarios.NAMES:
        before, started = load(), time.monotonic()
        tables = []
        for table in scenarios.load(name)(options):
            print(table, flush=True)
            tables.append(table.to_json())
        seconds = time.monotonic() - started
        found[name] = {"seconds": seconds, "load": [before, load()], "tables": tables}
        _write(given.json, found)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure dq.")
    add = parser.add_argument
    add("--quick", action="store_true", help="sizes that show only that everything runs")
    add("--full", action="store_true", help="10 M inputs where the default has 2 M, and so on")
    add("--only", action="append", metavar="NAME", choices=scenarios.NAMES, help="repeatable")
    add("--repeats", type=int, metavar="N", help="samples of each figure (5)")
    add("--json", metavar="FILE", help="write every sample there too")
    add("--list", action="store_true", help="say what there is")
    return parser.parse_args()


def _introduce(size: str) -> dict[str, str]:
    """Say what runs where, since no figure means anything without."""
    about = machine()
    for name in (*peers.STANDARD[1:], *peers.OUTSIDE):
        module = peers.load(name)
        about[name.rstrip("_")] = module.available() or module.version()
    width = max(map(len, about))
    for what, value in about.items():
        print(f"{what:{width}}  {value}")
    if size == "quick":
        print("\n--quick: the figures below mean nothing.")
    sys.stdout.flush()
    return about


def _write(path: str | None, found: dict[str, object]) -> None:
    if path is not None:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    sys.exit(main())
