"""Tasks of `test_api_executor_server.py`."""

from __future__ import annotations

import os
import time
from pathlib import Path


def double(x: int) -> int:
    return 2 * x


class Point:
    def __init__(self, x: int) -> None:
        self.x = x


def write_pid_and_sleep(path: Path) -> None:
    new = path.with_suffix(".new")  # one for each: they are written at the same time
    new.write_text(str(os.getpid()))
    new.rename(path)
    time.sleep(1000)
