"""Where the records of a CSV file end."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

MAX_RECORD_BYTES = 1 << 26  # of a record that spans several lines


def _open_quote(delimiter: str) -> re.Pattern[bytes]:
    """Matches lines that end within quotes: whole cells, then an opening quote and what follows."""
    no, comma = f"[^{re.escape(delimiter)}]".encode(), re.escape(delimiter).encode()
    first = f'[^"{re.escape(delimiter)}]'.encode()
    cell = rb'(?:"(?:[^"]|"")*"(?!")%b*|%b%b*)?' % (no, first, no)
    return re.compile(rb'(?:%b%b)*"(?:[^"]|"")*' % (cell, comma), re.DOTALL)


def csv_records(lines_of_file: Iterable[bytes], delimiter: str) -> Iterator[tuple[bytes, int]]:
    """CSV records, each with the number of lines after its first. A record does not end with its
    line while a quote is open. It ends at `MAX_RECORD_BYTES` in case the quote is never closed."""
    opens = _open_quote(delimiter).fullmatch
    lines: list[bytes] = []
    size = 0
    for line in lines_of_file:
        start = b'"' if lines else b""  # as if a quote had been opened right before the line
        lines.append(line)
        size += len(line)
        if b'"' in start + line and opens(start + line) and size <= MAX_RECORD_BYTES:
            continue
        yield b"".join(lines), len(lines) - 1
        lines, size = [], 0
    if lines:
        yield b"".join(lines), len(lines) - 1
