"""Tasks of `test_api_jobs.py`."""

from __future__ import annotations

import os


def square(x: int) -> int:
    return x * x


def picky(x: int) -> int:
    if x % 5 == 3 and not os.path.exists(os.environ.get("MENDED", "/nonexistent")):
        raise ValueError(f"no {x} today")
    if x == 7:
        raise KeyError(x)
    return x


class Point:
    def __init__(self, x: int) -> None:
        self.x = x


def point(x: int) -> Point:
    return Point(x)


def x_of(one: Point) -> int:
    return one.x


def with_env(mended: str, x: int) -> int:
    os.environ["MENDED"] = mended
    return picky(x)
