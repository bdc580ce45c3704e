"""Tables for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import datetime
import math
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata


@dataclass(frozen=True)
class Goal:
    """A figure that dq has to reach, and the one it did."""

    what: str
    value: float
    limit: float
    at_least: bool = True

    @property
    def met(self) -> bool | None:
        """None where it could not be measured."""
        if math.isnan(self.value):
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        verdict = {True: "met", False: "MISSED", None: "not measured"}[self.met]
        return f"{self.what}: {self.value:.3g} (goal {sign} {self.limit:g}) - {verdict}"


@dataclass(frozen=True)
class Table:
    """What one scenario found.

    Args:
        title: what was measured, with its sizes.
        columns: their heads.
        rows: their cells; the first says who.
        samples: who → what → the figure of each repeat, for the JSON file.
        notes: what has to be known besides, a line each.
        goals: what was to be reached.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    samples: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    goals: Sequence[Goal] = ()

    def __str__(self) -> str:
        lines = ["", self.title, "", *_aligned([self.columns, *self.rows])]
        lines += [f"  {note}" for note in self.notes]
        lines += [f"  * {goal}" for goal in self.goals]
        return "\n".join(lines)

    def to_json(self) -> dict[str, object]:
        goals = [{**dataclasses.asdict(goal), "met": goal.met} for goal in self.goals]
        return {**dataclasses.asdict(self), "goals": goals}


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Cells under each other: the first column to the left, figures to the right.

    A row that is shorter than the others ends in a remark, which may be as long as it likes.
    """
    full = max(len(row) for row in rows)
    widths = [
        max((len(row[place]) for row in rows if place < len(row) and len(row) == full), default=0)
        for place in range(full)
    ]
    widths[0] = max(len(row[0]) for row in rows)
    return [_line(row, widths).rstrip() for row in rows]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    if len(row) < len(widths):
        return "  ".join([row[0].ljust(widths[0]), *row[1:]])
    cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
    return "  ".join([row[0].ljust(widths[0]), *cells])


def version(distribution: str) -> str:
    """The installed version of a distribution."""
    return f"{distribution} {metadata.version(distribution)}"


def machine() -> dict[str, str]:
    """What the figures depend on besides the code."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "date": now.isoformat(" ", "seconds"),
        "command": shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "dq": version("dq-toolkit"),
        "cpus": f"{os.cpu_count()} x {_cpu()}",
        "system": f"{platform.system()} {platform.release()}",
        "load at start": f"{load():.2f}",
    }


def load() -> float:
    """Processes that want a CPU, on average over the last minute."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
