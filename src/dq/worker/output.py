"""What the task processes of a worker print, read by its supervisor for the master."""

from __future__ import annotations

import contextlib
import os
import threading
import time

from dq.core.beats import OutputLine
from dq.worker.cells import INDEX, LEASE
from dq.worker.child import Child
from dq.worker.lines import NO_TASK, Lines, Tag
from dq.worker.outbox import Outbox

READ_BYTES = 64 * 1024
LAST_WORDS_S = 0.3  # to read what ended processes have printed last


class Pipe:
    """The standard output and standard error of one task process."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._reader, self._writer = os.pipe()

    def give(self) -> int:
        """The end for the process, which belongs to the caller from now on."""
        writer, self._writer = self._writer, -1
        return writer

    def close(self) -> None:
        """Close it, since there is no process."""
        os.close(self._reader)
        if self._writer >= 0:
            os.close(self._writer)

    def read(self, child: Child) -> None:
        """Read what a process prints, in a thread of its own, until it has ended, and whatever it
        has started.

        Raises:
            RuntimeError: there are too many threads.
        """
        self._output.follow(self._reader, child)


class Output:
    """Reads what task processes print.

    Args:
        outbox: gets the lines.
        threads: how many slots a process has.
        echo: whether to print it here as well.
    """

    def __init__(self, outbox: Outbox, threads: int, echo: bool) -> None:
        self._outbox = outbox
        self._threads = threads
        self._echo = echo
        self._readers: set[threading.Thread] = set()

    def open(self) -> Pipe:
        """A pipe for a new process."""
        return Pipe(self)

    def follow(self, reader: int, child: Child) -> None:
        """See `Pipe.read`."""
        thread = threading.Thread(target=self._read, args=(reader, child), daemon=True)
        thread.start()
        self._readers = {one for one in self._readers if one.is_alive()} | {thread}

    def join(self) -> None:
        """Wait until what ended processes have printed is read. Programs that they have left behind
        may keep their pipes open."""
        deadline = time.monotonic() + LAST_WORDS_S
        for thread in self._readers:
            thread.join(max(deadline - time.monotonic(), 0.0))

    def _read(self, reader: int, child: Child) -> None:
        process = child.name
        lines = Lines(lambda: self._task_of(child))
        with contextlib.suppress(OSError), open(reader, "rb", buffering=0) as pipe:
            while data := pipe.read(READ_BYTES):
                self._take(process, list(lines.feed(data)))
        self._take(process, list(lines.rest()))

    def _task_of(self, child: Child) -> int:
        """The task that a process runs now, if it runs only one."""
        if self._threads != 1:
            return NO_TASK
        lease, index = child.peek(LEASE, INDEX)
        return index if lease else NO_TASK

    def _take(self, process: str, lines: list[tuple[Tag, bytes]]) -> None:
        if self._echo:
            _echo(b"".join(text for _, text in lines))
        for place, ((job, index), text) in enumerate(lines):
            if self._outbox.is_full:  # as when a task prints without pause
                self._outbox.drop(len(lines) - place)
                return
            line = text.decode("utf-8", "backslashreplace").rstrip("\r\n").rpartition("\r")[2]
            self._outbox.add(OutputLine(process, job, index, line))


def _echo(text: bytes) -> None:
    with contextlib.suppress(OSError):
        while text:
            text = text[os.write(2, text) :]
