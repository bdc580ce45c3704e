"""What the benchmarks' tasks do: importable by every peer's workers as `benchmarks.functions`."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple


@dataclass
class Point:
    """An object as programs have them."""

    x: int
    y: int


@dataclass(frozen=True)
class FrozenPoint:
    x: int
    y: int


class NamedPoint(NamedTuple):
    x: int
    y: int


class Color(Enum):
    RED = "red"
    GREEN = "green"
    BLUE = "blue"


COLORS = tuple(Color)


def square(x: Any) -> Any:
    """The no-op: what it costs is the toolkit's."""
    return x * x


def same(x: Any) -> Any:
    """A no-op whose results are as large as its inputs."""
    return x


def look_up(n: int, table: Any) -> float:
    """A task that needs a large array besides its input."""
    return float(table[n])


def nothing(x: Any) -> None:
    """A no-op without a result."""


def square_line(line: str) -> str:
    """What ``dq run`` makes of a line of its input: parse, call, print."""
    return f"{square(json.loads(line))}\n"


def nap(seconds: float) -> float:
    """Sleep; returns how long that really took, so that the ideal can be told exactly."""
    started = time.perf_counter()
    if seconds:
        time.sleep(seconds)
    return time.perf_counter() - started


def stamped_nap(seconds: float) -> tuple[float, float]:
    """As `nap`; with when it was over, on the clock that all processes of a machine share."""
    took = nap(seconds)
    return took, time.monotonic()


def echo(payload: bytes) -> bytes:
    return payload


def run_true(x: Any) -> int:
    """A task that is a program."""
    return subprocess.run(["true"], check=False).returncode
