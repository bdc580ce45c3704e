"""Tasks of `test_api_journal.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

LOG = "log"


def logged(x: int) -> int:
    with open(LOG, "a") as log:
        log.write(f"{x}\n")
    if x == 5 and not Path("mended").exists():
        raise ValueError("no 5 today")
    return x * x


class Unsendable:
    def __reduce__(self) -> Iterator[object]:
        raise TypeError("cannot be sent")
