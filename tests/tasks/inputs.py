"""Tasks of `test_api_inputs.py`."""

from __future__ import annotations

import os


def first(row: tuple[object, ...]) -> object:
    return row[0]


def die(x: object) -> None:
    os._exit(3)


def refuse(x: object) -> None:
    raise ValueError


def add_one(counts: list[int], by: int = 1) -> int:
    counts.append(by)
    return len(counts)
