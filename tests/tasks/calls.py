"""Tasks of `test_api_calls.py`."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path


def square(x: int) -> int:
    return x * x


def add(a: int, b: int = 10) -> int:
    return a + b


def fail_at_3(x: int) -> int:
    if x == 3:
        raise ValueError("three")
    return x


def nap(x: float) -> float:
    time.sleep(0.01)
    return x


def touch(path: str) -> str:
    Path(path).touch()
    return path


def wait_for(path: str | None) -> str | None:
    from support import wait_until  # not above: most tasks do without

    wait_until(lambda: path is None or Path(path).exists(), 30)
    return path


def pid(x: object) -> int:
    return os.getpid()


class Point:
    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and other.x == self.x

    def twice(self) -> Point:
        return Point(2 * self.x)


class Unfriendly(Exception):
    """Cannot be unpickled: takes other arguments than its `args`."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


def raise_unfriendly(x: int) -> None:
    raise Unfriendly(x, x)


def no_pickle(x: int) -> object:
    return threading.Lock() if x == 2 else x
