"""An SQLite database's write-ahead log, the file whose name ends in -wal.

SQLite reads a log up to the first frame with a wrong checksum, and silently ignores the rest.
The format is that of https://www.sqlite.org/fileformat2.html#walformat, with pages of `PAGE` bytes.
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

PAGE = 4096
MAGIC = (0x377F0682, 0x377F0683)  # of a log with checksums in little and in big endian
HEADER, FRAME = 32, 24  # bytes before the frames, and before the page in each of them


class Frame(NamedTuple):
    """A page in a log, as a transaction wrote it.

    Args:
        page: its number in the database, from 1 on.
        is_commit: whether it is the last of its transaction.
        place: position of its bytes in the log.
    """

    page: int
    is_commit: bool
    place: int


def frames(log: bytes) -> list[Frame]:
    """All frames since the log was last restarted, including those that SQLite cannot read. Older
    frames have another salt."""
    places = range(HEADER, len(log) - FRAME - PAGE + 1, FRAME + PAGE)
    if not places:
        return []
    salt = log[16:24] if _is_header(log) else log[HEADER + 8 : HEADER + 16]
    found = []
    for place in places:
        page, size = struct.unpack_from(">II", log, place)
        if log[place + 8 : place + 16] == salt:
            found.append(Frame(page, size != 0, place + FRAME))
    return found


def has_log(path: str) -> bool:
    """Whether a database has a log with anything in it."""
    try:
        return os.path.getsize(path + "-wal") > HEADER
    except OSError:
        return False


def unread_commits(path: str) -> int:
    """How many commits the log of an open database has after those that SQLite can read.

    After a power failure there may be one, which was being written. There are more only if an
    earlier commit is damaged, since each commit is synced before the next.
    """
    try:
        with open(path + "-wal", "rb") as file:
            log = file.read()
        with open(path + "-shm", "rb") as file:
            index = file.read(20)
    except OSError:
        return 0
    if len(log) < HEADER or len(index) < 20:
        return 0
    [read] = struct.unpack_from("=I", index, 16)  # mxFrame of the wal-index
    return sum(frame.is_commit for frame in frames(log)[read:])


def _is_header(log: bytes) -> bool:
    """Whether the checksum of a log's header is right."""
    [magic] = struct.unpack_from(">I", log)
    if magic not in MAGIC:
        return False
    first = second = 0
    words = struct.unpack_from("<6I" if magic == MAGIC[0] else ">6I", log)
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return (first, second) == struct.unpack_from(">II", log, 24)
