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
        if is_buffer(value):
            return cls(type(value).__name__, (memoryview(cast("bytes", value)),))
        buffers: Buffers = []
        return cls(dump_one(value, classes, buffers), tuple(buffers))

    @property
    def nbytes(self) -> int:
        """How many bytes they have in all."""
        return len(self.pickle) + sum(buffer.nbytes for buffer in self.buffers)

    def load(self, loads: Loads) -> object:
        """The value, which keeps the memory of its buffers."""
        if isinstance(self.pickle, str):
            return BYTES[self.pickle](self.buffers[0])
        if self.buffers and loads is not pickle.loads:
            from dq.security.pickle_rules import Refused  # here, since few workers need it

            raise Refused("an array may not be unpickled here, only standard data types may")
        return (
            pickle.loads(self.pickle, buffers=self.buffers) if self.buffers else loads(self.pickle)
        )


def is_buffer(value: object) -> bool:
    """Whether a value is one large buffer itself."""
    return type(value) in (bytes, bytearray) and len(cast("bytes", value)) >= LARGE_BYTES


def blob_of(pickles: list[LargePickle], kind: int) -> LargeBlob:
    """A blob of values, whose head is a pickle of `kind` and the values without their buffers."""
    head = [(each.pickle, len(each.buffers)) for each in pickles]
    buffers = [buffer for each in pickles for buffer in each.buffers]
    return LargeBlob(pickle.dumps((kind, head)), tuple(buffers))


def pickles_in(head: list[tuple[bytes | str, int]], blob: LargeBlob) -> list[LargePickle]:
    """The inverse of `blob_of`, from its unpickled head."""
    found, at = [], 0
    for data, count in head:
        found.append(LargePickle(data, blob.buffers[at : at + count]))
        at += count
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
