"""Large values, whose memory is not copied into their pickles (PEP 574: out-of-band buffers)."""

from __future__ import annotations

import pickle

from dq._support.arrays import LARGE_BYTES
from dq._support.frozen import cast, frozen
from dq._support.memory import copied
from dq.core.blobs import Blob, LargeBlob
from dq.core.records import Loads
from dq.data.pickling import Buffers, Classes, dump_one

BYTES: dict[str, type[bytes] | type[bytearray]] = {"bytes": bytes, "bytearray": bytearray}


@frozen
class LargePickle:
    """A value's pickle and its buffers. A value of bytes is one buffer, and has the name of its
    type in place of a pickle."""

    pickle: bytes | str
    buffers: tuple[memoryview, ...]

    @classmethod
    def of(cls, value: object, classes: Classes) -> LargePickle:
        """Pickle a value.

        Args:
            value: the value.
            classes: takes the classes in it that the other end could not import.
        """
        buffers: Buffers = []
        return cls(dump_apart(value, classes, buffers), tuple(buffers))

    @property
    def nbytes(self) -> int:
        """How many bytes they have in all."""
        return len(self.pickle) + sum(buffer.nbytes for buffer in self.buffers)

    def load(self, loads: Loads) -> object:
        """The value, which keeps the memory of its buffers."""
        if isinstance(self.pickle, str):
            [buffer] = self.buffers
            return BYTES[self.pickle](buffer)
        if self.buffers and loads is not pickle.loads:
            from dq.security.pickle_rules import Refused  # here, since few workers need it

            raise Refused("an array may not be unpickled here, only standard data types may")
        return (
            pickle.loads(self.pickle, buffers=self.buffers) if self.buffers else loads(self.pickle)
        )


def is_buffer(value: object) -> bool:
    """Whether a value is one large buffer itself."""
    return type(value) in (bytes, bytearray) and len(cast("bytes", value)) >= LARGE_BYTES


def dump_apart(value: object, classes: Classes, buffers: Buffers) -> bytes | str:
    """A value's pickle, or the name of its type; its buffers are added to the list."""
    if is_buffer(value):
        buffers.append(memoryview(cast("bytes", value)))
        return type(value).__name__
    return dump_one(value, classes, buffers)


def pickles_in(head: list[tuple[bytes | str, int]], blob: LargeBlob) -> list[LargePickle]:
    """The pickles of a blob's values, from its head: for each value what `dump_apart` has returned,
    and how many of the blob's buffers there were then."""
    found, start = [], 0
    for data, end in head:
        if type(end) is not int or not start <= end <= len(blob.buffers):
            raise TypeError("no such buffers")
        found.append(LargePickle(data, blob.buffers[start:end]))
        start = end
    return found


def head_of(blob: Blob) -> bytes:
    """A blob without its buffers."""
    return blob if isinstance(blob, bytes) else blob.head


def with_head(blob: Blob, head: bytes) -> Blob:
    """A blob with another head and the same buffers."""
    return head if isinstance(blob, bytes) else LargeBlob(head, blob.buffers)


def split(pieces: list[bytes]) -> LargeBlob:
    """A blob from its head and its buffers, which are copied."""
    head, *buffers = pieces
    return LargeBlob(head, tuple(map(copied, buffers)))


def copy_of(blob: Blob) -> Blob:
    """A blob whose values do not have the memory of those that it was made of."""
    if isinstance(blob, bytes):
        return blob
    return LargeBlob(blob.head, tuple(map(copied, blob.buffers)))
