"""What is in an SQLite file, without SQLite: for one so damaged that SQLite gives up on it.

After https://www.sqlite.org/fileformat2.html, and only as far as a journal needs it: pages of
`PAGE` bytes, tables with an integer key, a write-ahead log.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

PAGE = 4096
LEAF = 0x0D  # first byte of a page with rows of a table
MAGIC = (0x377F0682, 0x377F0683)  # of a log with checksums in little and in big endian
HEADER, FRAME = 32, 24  # bytes before the frames, and before the page in each of them

Column = int | float | bytes | str | None
PageOf = Callable[[int], bytes]
FIXED = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}  # bytes of an integer, by its serial type
FEWEST = (PAGE - 12) * 32 // 255 - 23  # bytes that a row with overflow pages has on its own page
MOST = PAGE - 35  # bytes that a row may have without overflow pages


class Frame(NamedTuple):
    """One page in a write-ahead log; `place` is where its bytes begin."""

    page: int
    is_commit: bool
    salt: bytes
    place: int


def frames(log: mmap.mmap | bytes) -> list[Frame]:
    """All whole frames of a log, those of earlier rounds included."""
    found = []
    for place in range(HEADER, len(log) - FRAME - PAGE + 1, FRAME + PAGE):
        page, size = struct.unpack_from(">II", log, place)
        salt = log[place + 8 : place + 16]
        found.append(Frame(page, size != 0, salt, place + FRAME))
    return found


def has_log(path: str) -> bool:
    """Whether a database has a log with anything in it."""
    try:
        return os.path.getsize(path + "-wal") > HEADER
    except OSError:
        return False


def unread_commits(path: str) -> int:
    """How many commits the log of an open database has beyond those that SQLite has read.

    One may be there after the power failed: it was being written. More are there only because one
    before them is damaged, since each is synced before the next.
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
    written = frames(log)
    salt = log[16:24]
    if not _is_header(log) and written:
        salt = written[0].salt
    return sum(frame.is_commit and frame.salt == salt for frame in written[read:])


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


class Remains:
    """A database file and its log, of which any page may be damaged.

    Args:
        path: the database; there may be no log.
    """

    def __init__(self, path: str) -> None:
        self._data, self._log = _map(path), _map(path + "-wal")
        self._frames = frames(self._log)
        self._newest = {frame.page: frame.place for frame in self._frames}

    def rows(self) -> Iterator[tuple[Column, ...]]:
        """Whatever can be read as a row on any page, what is in the log first, the newest first.

        Rows come more than once, out of date or with nonsense in them: who reads has to know.
        """
        for frame in reversed(self._frames):
            page = self._log[frame.place : frame.place + PAGE]
            yield from self._rows_of(page, (self._from_log, self._from_file))
        for start in range(PAGE, len(self._data), PAGE):
            page = self._data[start : start + PAGE].ljust(PAGE, b"\0")
            yield from self._rows_of(page, (self._from_file, self._from_log))

    def _from_log(self, page: int) -> bytes:
        place = self._newest.get(page)
        return self._from_file(page) if place is None else self._log[place : place + PAGE]

    def _from_file(self, page: int) -> bytes:
        return self._data[(page - 1) * PAGE : page * PAGE] if page > 0 else b""

    def _rows_of(self, page: bytes, sources: tuple[PageOf, ...]) -> Iterator[tuple[Column, ...]]:
        """The rows of a page; with overflow pages from each of the sources."""
        if page[0] != LEAF:
            return
        [count] = struct.unpack_from(">H", page, 3)
        for place in struct.iter_unpack(">H", page[8 : 8 + 2 * min(count, PAGE // 4)]):
            for source in sources:
                try:
                    yield self._row(page, place[0], source)
                except (IndexError, ValueError, struct.error):
                    pass  # no row, or one whose overflow pages are gone

    def _row(self, page: bytes, place: int, page_of: PageOf) -> tuple[Column, ...]:
        size, place = _varint(page, place)
        key, place = _varint(page, place)
        if size > len(self._data) + len(self._log):
            raise ValueError("no row: it would be larger than the file")
        local = size
        if size > MOST:
            local = FEWEST + (size - FEWEST) % (PAGE - 4)
            local = local if local <= MOST else FEWEST
        parts = [page[place : place + local]]
        left = size - local
        number = struct.unpack_from(">I", page, place + local)[0] if left else 0
        while left > 0:
            overflow = page_of(number)
            [number] = struct.unpack_from(">I", overflow)
            parts.append(overflow[4 : 4 + left])
            left -= PAGE - 4
        # The key stands before the columns, and as NULL in the first of them.
        return (key - (key >> 63 << 64), *_columns(b"".join(parts))[1:])


def _map(path: str) -> mmap.mmap | bytes:
    """A file's bytes, which need not fit into memory; none where there is none."""
    try:
        with open(path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (FileNotFoundError, ValueError):  # ValueError: it is empty
        return b""


def _columns(payload: bytes) -> list[Column]:
    end, place = _varint(payload, 0)
    types = []
    while place < end:
        type, place = _varint(payload, place)
        types.append(type)
    columns = []
    for type in types:
        size = FIXED.get(type) or (8 if type == 7 else max(type - 12, 0) // 2)
        data = payload[place : place + size]
        if len(data) < size:
            raise ValueError("a row that is cut off")
        columns.append(_column(type, data))
        place += size
    return columns


def _column(type: int, data: bytes) -> Column:
    if type in FIXED:
        return int.from_bytes(data, "big", signed=True)
    if type == 7:
        number: float = struct.unpack(">d", data)[0]
        return number
    if type >= 12:
        return data.decode() if type % 2 else data
    return {8: 0, 9: 1}.get(type)


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A number of up to nine bytes, and the place after it."""
    value = 0
    for count in range(8):
        byte = data[place + count]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + count + 1
    return value << 8 | data[place + 8], place + 9
