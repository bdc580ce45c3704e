"""The pipe on which a supervisor gives a task process its configuration, and later tells it to
leave; that it closes means that the supervisor has died."""

from __future__ import annotations

import os

MARK = "DQ_TASK_PROCESS"  # variable of a task process until it knows that it is one
DRAIN = b"d"  # what a process that has its configuration reads when it is to leave
LENGTH_BYTES = 8  # say how long the configuration is, which comes after them


def send(pipe: int, message: bytes) -> None:
    """Write a configuration; waits while the pipe is full, which takes 64 KiB at most until the
    process reads.

    Raises:
        OSError: nobody reads any more.
    """
    left = memoryview(len(message).to_bytes(LENGTH_BYTES, "big") + message)
    while left:
        left = left[os.write(pipe, left) :]


def receive(pipe: int) -> bytes:
    """Read a configuration, and not a byte of what may follow it.

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
