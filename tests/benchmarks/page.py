"""The figures of docs/performance.md: kept in a JSON file, and put into the page from it.

cd tests && python -m benchmarks --json results.json && python -m benchmarks.page results.json

A run of some scenarios renews their figures only. Each stands in the page between
``<!-- measured: NAME -->`` and ``<!-- end -->``; the text around them is written by hand.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import peers

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "performance.md"
DATA = DOCS / "performance" / "measured.json"
VERSIONS = ("cpus", "system", "python", "dq", *(name.rstrip("_") for name in peers.OUTSIDE))
BLOCK = re.compile(r"(<!-- measured: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
MISSED, MACHINE = "missed", "machine"


@dataclass(frozen=True)
class Part:
    """What the page has of a scenario's table.

    Args:
        table: its place among the scenario's tables.
        rows: the names of those to show; all where there are none.
        columns: likewise.
    """

    table: int = 0
    rows: Sequence[str] = ()
    columns: Sequence[str] = ()


PARTS: dict[str, Sequence[Part]] = {
    "throughput": [
        Part(
            rows=(
                "dq (map; run)",
                "dq (map of a generator)",
                "dq (stream)",
                "Pool.imap_unordered, chunk 1",
                "Pool.imap_unordered, chunk 100",
                "Pool.imap_unordered, chunk 4096",
                "ProcessPoolExecutor.map, chunk 1",
                "ProcessPoolExecutor.map, chunk 100",
            ),
            columns=("steady/s", "x best Pool", "start to stop/s"),
        )
    ],
    "values": [
        Part(
            rows=(
                "dq (map): numbers, no result",
                "dq (map): texts",
                "dq (map): dicts",
                "dq (map): objects of a class",
                "dq (map): enumerations",
                "dq (map): NumPy's numbers",
            )
        )
    ],
    "arrays": [
        Part(0),
        Part(
            1,
            rows=(
                "dq: a master and a worker, 1 MiB",
                "dq: a master and a worker, 8 MiB",
                "dq: a master and a worker, 50 MiB",
            ),
        ),
        Part(2),
    ],
    "latency": [
        Part(
            rows=(
                "dq: Executor.submit().result()",
                "dq: Master.map of a single input, each time",
                "dq: put and get through the plain queues",
                "ProcessPoolExecutor.submit().result()",
                "Pool.apply_async().get()",
                "the recipe: put and get, no worker",
            ),
            columns=("p50", "p99"),
        )
    ],
    "command": [
        Part(
            rows=(
                "dq run --input FILE -o FILE -w 2",
                "Pool.imap from file to file, chunk 4096",
                "one process, a plain loop",
            ),
            columns=("lines/s", "x best Pool"),
        )
    ],
    "starting": [
        Part(
            rows=(
                "a bare click program's --help",
                "dq --help",
                "a script with ProcessPoolExecutor(2)",
                "dq run math:sqrt 4",
            )
        )
    ],
    "replacing": [Part()],
    "links": [
        Part(
            rows=(
                "dq: 20,000,000 tasks, no-op; 10 ms each way",
                "dq: 20,000,000 tasks, no-op; 100 ms each way",
                "dq: 10,000 tasks, 1 ms; 10 ms each way",
                "dq: 10,000 tasks, 1 ms; 100 ms each way",
            )
        )
    ],
    "journaled": [Part(columns=("without", "--journal", "x without"))],
    "peers": [
        Part(
            rows=(
                "dq (map; run)",
                "joblib, batch_size=1000, pre_dispatch=8*n_jobs",
                "mpire",
                "dask, bag, 4 partitions a worker",
                "ipyparallel, direct view",
                "huey, Redis",
                "celery, chunks of 1000",
                "dramatiq, 8 threads",
                "rq, SimpleWorker",
            ),
            columns=("steady/s", "dq is x", "start to stop/s"),
        )
    ],
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("results", nargs="*", metavar="FILE", help="of python -m benchmarks --json")
    known: dict[str, Any] = json.loads(DATA.read_text()) if DATA.exists() else {}
    for file in parser.parse_args().results:
        known |= scenarios(json.loads(Path(file).read_text()))
    DATA.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8"), known), encoding="utf-8")
    return 0


def scenarios(found: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a run: by scenario, its tables and what it was measured on."""
    return {
        name: {
            "machine": _without(found["machine"], "command"),  # it names the user's files
            "load": result.get("load"),
            "tables": [_without(table, "samples") for table in result["tables"]],
        }
        for name, result in found.items()
        if name != "machine"
    }


def _without(record: dict[str, Any], name: str) -> dict[str, Any]:
    return {what: value for what, value in record.items() if what != name}


def renewed(page: str, known: dict[str, Any]) -> str:
    """The page with the figures that are known in the blocks that name them."""

    def block(found: re.Match[str]) -> str:
        name = found[2]
        if name == MISSED:
            lines = missed(known)
        elif name == MACHINE:
            lines = machines(known)
        elif name in known:
            lines = measured(name, known[name])
        else:
            return found[0]
        return "\n".join([found[1].rstrip("\n"), *lines, found[3]])

    return BLOCK.sub(block, page)


def measured(name: str, result: dict[str, Any]) -> Iterator[str]:
    for part in PARTS[name]:
        table = result["tables"][part.table]
        yield f"{table['title']}:"
        yield ""
        yield from shown(table, part)
        yield ""
    yield f"`python -m benchmarks --only {name}`, {result['machine']['date'][:10]}{_load(result)}."


def _load(result: dict[str, Any]) -> str:
    """What else the machine had to do. (A benchmark's own load is up to three.)"""
    if not result["load"]:
        return ""
    before, after = result["load"]
    return f", load {before:.1f} before and {after:.1f} after"


def shown(table: dict[str, Any], part: Part) -> Iterator[str]:
    """Some rows and columns of a table, in Markdown."""
    heads = table["columns"]
    places = [0, *(n for n, head in enumerate(heads) if n and _wanted(head, part.columns))]
    yield _line(heads[n] for n in places)
    yield _line("---" if n == 0 else "--:" for n in places)
    for row in table["rows"]:
        if _wanted(row[0], part.rows):
            remark = row[1:] if len(row) < len(heads) else None  # why there are no figures
            yield _line([row[0], *(remark or [row[n] for n in places[1:]])])


def _wanted(name: str, names: Sequence[str]) -> bool:
    return not names or name in names


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def machines(known: dict[str, Any]) -> Iterator[str]:
    """On what it was measured: each machine and version once."""
    found: dict[str, None] = {}
    for result in known.values():
        for what, value in result["machine"].items():
            if what in VERSIONS and not value.startswith(("no ", "not installed")):
                found[value] = None
    yield textwrap.fill(f"{', '.join(found)}.", 104)


def missed(known: dict[str, Any]) -> Iterator[str]:
    """Every goal that was not reached."""
    for name, result in known.items():
        for table in result["tables"]:
            for goal in table["goals"]:
                if goal["met"] is False:
                    sign = "≥" if goal["at_least"] else "≤"
                    yield (
                        f"- `{name}`: {goal['what']}: {goal['value']:.3g} (goal {sign}"
                        f" {goal['limit']:g})"
                    )


if __name__ == "__main__":
    sys.exit(main())
