"""Cuts what a task process has printed into lines, with the task that each is from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from dq.worker.tagging import BEGIN, END, LONGEST_MARK

LONGEST_LINE = 8192  # bytes; a longer one is cut into several
NO_TASK = -1  # in place of a task's number

# Bounded, since a task may print anything: of a number with 5,000 digits `int` makes nothing.
_MARK = re.compile(re.escape(BEGIN) + rb"(\d{1,19}),(\d{1,4}),([\w.-]{0,150})" + re.escape(END))
_BEGINNING = re.compile(re.escape(BEGIN) + rb"[\d,]*[\w.-]*")  # of a mark, perhaps

Tag = tuple[str, int]  # job, and number of the task


class Lines:
    """Cuts the output of one process.

    Args:
        current: the number of the task that the process runs now, for text without a mark.

    >>> lines = Lines(lambda: 5)
    >>> list(lines.feed(b"one\\n\\x1e7,4,ab\\x1ftwo\\nthr"))
    [(('', 5), b'one\\n'), (('ab', 7), b'two\\n')]
    >>> list(lines.feed(b"ee\\n"))
    [(('ab', 5), b'three\\n')]
    """

    def __init__(self, current: Callable[[], int]) -> None:
        self._current = current
        self._held = b""  # the beginning of a mark, perhaps
        self._job = ""
        self._tag: Tag | None = None  # of the piece that is being read; None without a mark
        self._left = 0  # bytes of this piece that have not been read yet
        self._line = b""  # that has not ended yet
        self._line_tag: Tag = ("", NO_TASK)

    def feed(self, data: bytes) -> Iterator[tuple[Tag, bytes]]:
        """The lines that end in this data, each with its tag."""
        for tag, text in self._pieces(self._held + data):
            yield from self._cut(tag or (self._job, self._current()), text)

    def rest(self) -> Iterator[tuple[Tag, bytes]]:
        """What is left at the end."""
        text, self._held = self._held, b""
        if text:
            yield from self._cut((self._job, NO_TASK), text)
        if self._line:
            yield self._line_tag, self._line
            self._line = b""

    def _pieces(self, data: bytes) -> Iterator[tuple[Tag | None, bytes]]:
        self._held = b""
        while data:
            if self._left:
                piece, data = data[: self._left], data[self._left :]
                self._left -= len(piece)
                yield self._tag, piece
                continue
            before, begin, after = data.partition(BEGIN)
            if before:
                yield None, before
            if not begin:
                return
            data = begin + after
            found = _MARK.match(data)
            if found is not None:
                self._job = found[3].decode()
                self._tag, self._left = (self._job, int(found[1])), int(found[2])
                data = data[found.end() :]
            elif _BEGINNING.fullmatch(data) is not None and len(data) < LONGEST_MARK:
                self._held = data
                return
            else:  # a task has printed this character itself
                yield None, begin
                data = after

    def _cut(self, tag: Tag, text: bytes) -> Iterator[tuple[Tag, bytes]]:
        if self._line and self._line_tag != tag:
            yield self._line_tag, self._line
            self._line = b""
        *whole, rest = (self._line + text).split(b"\n")
        for line in whole:
            yield from ((tag, part) for part in _bounded(line + b"\n"))
        *full, rest = _bounded(rest)
        yield from ((tag, part) for part in full)
        self._line, self._line_tag = rest, tag


def _bounded(line: bytes) -> list[bytes]:
    """The parts of a line that is too long."""
    if len(line) <= LONGEST_LINE:
        return [line]
    return [line[start : start + LONGEST_LINE] for start in range(0, len(line), LONGEST_LINE)]
