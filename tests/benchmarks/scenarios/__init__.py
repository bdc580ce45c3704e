"""One module for each scenario, or family of them; each has ``measure(options)``."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.measure import Options
from benchmarks.report import Table

NAMES = (
    "throughput",
    "values",
    "command",
    "latency",
    "ideal",
    "heavy_tail",
    "mixed",
    "payloads",
    "arrays",
    "memory",
    "slots",
    "links",
    "floor",
    "scaling",
    "journaled",
    "starting",
    "replacing",
    "peers",
    "programs",
    "recovery",
)


def about(name: str) -> str:
    """What a scenario measures, in a line."""
    return str(_module(name).__doc__).partition("\n")[0]


def load(name: str) -> Callable[[Options], Iterator[Table]]:
    measure: Callable[[Options], Iterator[Table]] = _module(name).measure
    return measure


def _module(name: str) -> Any:
    return importlib.import_module(f"benchmarks.scenarios.{name}")
