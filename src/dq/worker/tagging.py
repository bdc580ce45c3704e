"""Tags what a task process prints with the task that prints it.

Its supervisor reads it. Before each piece of text there is a mark, which says of which task it is,
how long it is, and of which job. What a task's C code or its programs print has no mark: the
supervisor then takes the task that the cells show.
"""

from __future__ import annotations

import io
import os
import sys

from dq._support.frozen import TYPE_CHECKING
from dq.worker.current import find

if TYPE_CHECKING:
    from typing_extensions import Buffer

BEGIN, END = b"\x1e", b"\x1f"  # of a mark
LONGEST_MARK = 200  # bytes
PIECE = 3500  # bytes: with its mark it fits into one atomic write to a pipe, 4,096 on Linux


def mark(index: int, count: int, job: str) -> bytes:
    """The mark before `count` bytes that a task prints.

    >>> mark(7, 3, "ab")
    b'\\x1e7,3,ab\\x1f'
    """
    return b"%b%d,%d,%b%b" % (BEGIN, index, count, job.encode(), END)


class TaggedOutput(io.RawIOBase):
    """A descriptor; each piece that is written to it gets the mark of the current task."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        piece = bytes(memoryview(data)[:PIECE])
        found = find()
        head = b""
        if found is not None:
            task = found[0].describe(found[1])
            head = mark(task.id, len(piece), task.job)
        os.write(self._descriptor, head + piece)
        return len(piece)


def install() -> None:
    """Tag what this process writes to `sys.stdout` and `sys.stderr` from now on."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if (stream := getattr(sys, name)) is not None:
            stream.flush()
            buffer = io.BufferedWriter(TaggedOutput(descriptor))
            tagged = io.TextIOWrapper(buffer, stream.encoding, stream.errors, line_buffering=True)
            setattr(sys, name, tagged)


def tell_job(job: str) -> None:
    """Let the supervisor know of which job the text without marks is from now on."""
    os.write(2, mark(0, 0, job))
