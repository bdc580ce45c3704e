"""The pipe from a supervisor to a task process. It carries the configuration, and later the order
to leave. The supervisor has died if the pipe closes."""

from __future__ import annotations

import os

MARK = "DQ_TASK_PROCESS"  # environment variable that marks a task process while it starts
DRAIN = b"d"  # sent after the configuration, to tell the process to leave
LENGTH_BYTES = 8  # for the length of the configuration, in front of it


def send(pipe: int, message: bytes) -> None:
    """Write a configuration. A pipe may hold no more than 64 KiB, so this waits for the process to
    read a larger one.

    Raises:
        OSError: the process has closed its end.
    """
    left = memoryview(len(message).to_bytes(LENGTH_BYTES, "big") + message)
    while left:
        left = left[os.write(pipe, left) :]


def receive(pipe: int) -> bytes:
    """Read a configuration, and no byte beyond it.

    Raises:
        EOFError: there is none.
    """
    return _read(pipe, int.from_bytes(_read(pipe, LENGTH_BYTES), "big"))


def _read(pipe: int, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        parts.append(os.read(pipe, size))
        if not parts[-1]:
            raise EOFError
        size -= len(parts[-1])
    return b"".join(parts)
