"""Records of bytes, many in one block, such as lines of a file on their way into a journal."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence

BLOCK_BYTES = 256 * 1024  # of records in a block, beyond which the next one begins
BLOCK_RECORDS = 10_000
_COUNT_BYTES = 4


def pack(records: Sequence[bytes]) -> bytes:
    """Pack records into a block: how many there are, the length of each, and all of them.

    >>> list(unpack(pack([b"one", b"", b"three"]), start=1))
    [b'', b'three']
    """
    lengths = array("I", map(len, records))
    return array("I", [len(records)]).tobytes() + lengths.tobytes() + b"".join(records)


def count_of(block: bytes) -> int:
    """How many records a block has.

    Raises:
        ValueError: it is not a block.
    """
    return len(_lengths(block))


def unpack(block: bytes, start: int = 0) -> Iterator[bytes]:
    """The records of a block from the one with this place on. Each is copied only when it is taken.

    Raises:
        ValueError: it is not a block.
    """
    lengths = _lengths(block)
    at = _COUNT_BYTES * (1 + len(lengths)) + sum(lengths[:start])
    for length in lengths[start:]:
        yield block[at : at + length]
        at += length


def _lengths(block: bytes) -> array[int]:
    lengths = array("I")
    if len(block) < _COUNT_BYTES or lengths.itemsize != _COUNT_BYTES:
        raise ValueError("not a block of records")
    [count] = array("I", block[:_COUNT_BYTES])
    head = _COUNT_BYTES * (1 + count)
    if head > len(block):
        raise ValueError("not a block of records")
    lengths.frombytes(block[_COUNT_BYTES:head])
    if head + sum(lengths) != len(block):
        raise ValueError("not a block of records")
    return lengths


def blocks_of(records: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Records as blocks of at most about `BLOCK_BYTES`, each with the number of its records."""
    some: list[bytes] = []
    size = 0
    for record in records:
        some.append(record)
        size += len(record)
        if size >= BLOCK_BYTES or len(some) >= BLOCK_RECORDS:
            yield len(some), pack(some)
            some, size = [], 0
    if some:
        yield len(some), pack(some)
