"""Functions to run as tasks: the `project` fixture copies this file into a folder of its own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any


def square(x: Any) -> Any:
    return x * x


def add(a: Any, b: Any) -> Any:
    return a + b


def echo(x: Any) -> Any:
    return x


def fail(x: Any) -> None:
    raise ValueError(f"no {x!r} today")


def boom_at_7(x: Any) -> Any:
    if x == 7:
        raise ValueError("seven")
    return x


def sleepy(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def pid(x: Any) -> int:
    return os.getpid()


def shout(x: Any) -> Any:
    print(f"shout {x}")
    return x


async def async_double(x: Any) -> Any:
    return 2 * x


def kill_self(x: Any) -> Any:
    if x == "poison":
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def unpicklable(x: Any) -> Callable[[], Any]:
    return lambda: x


def log(x: Any) -> Any:
    """Write down who ran what, in one write: the lines of many processes stay whole."""
    line = f"{x} {os.getpid()}\n".encode()
    fd = os.open(os.environ["DQ_TEST_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, line)
    finally:
        os.close(fd)
    return x
