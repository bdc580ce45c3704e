"""Lines that tasks have printed, on their way to the master."""

from __future__ import annotations

import threading

from dq.core.beats import OutputLine

MOST_BYTES = 64 * 1024  # that wait for the next beat; what comes when it is full is counted
LINE_BYTES = 64  # of a line besides its text


class Outbox:
    """Lines that wait for the next beat, no more than `MOST_BYTES`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards everything here
        self._lines: list[OutputLine] = []
        self._bytes = 0
        self._dropped = 0
        self._is_wanted = True

    def want(self, yes: bool) -> None:
        """Note whether anybody at the master wants lines."""
        with self._lock:
            self._is_wanted = yes
            if not yes:
                self._lines, self._bytes, self._dropped = [], 0, 0

    def add(self, line: OutputLine) -> None:
        """Add a line, or count it if there is no room."""
        with self._lock:
            if not self._is_wanted:
                return
            self._bytes += LINE_BYTES + len(line.text)
            if self.is_full:
                self._dropped += 1
            else:
                self._lines.append(line)

    def drop(self, count: int) -> None:
        """Count lines that have no room."""
        with self._lock:
            self._dropped += count if self._is_wanted else 0

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another line."""
        return self._bytes > MOST_BYTES

    def take(self) -> tuple[tuple[OutputLine, ...], int]:
        """Take all lines, and how many had no room."""
        with self._lock:
            taken = tuple(self._lines), self._dropped
            self._lines, self._bytes, self._dropped = [], 0, 0
            return taken

    def put_back(self, lines: tuple[OutputLine, ...], dropped: int) -> None:
        """Put back what could not be sent."""
        with self._lock:
            later, self._lines = self._lines, list(lines)
            self._dropped += dropped
            self._bytes = sum(LINE_BYTES + len(line.text) for line in lines)
        for line in later:
            self.add(line)

    @property
    def is_empty(self) -> bool:
        return not self._lines and not self._dropped
