"""What a batch's inputs and its results are encoded as. The board never opens it."""

from __future__ import annotations

from dq._support.frozen import frozen


@frozen
class LargeBlob:
    """A blob with large buffers, which are never copied into one piece on their way.

    Args:
        head: what comes before the buffers, and says what is in them.
        buffers: flat views of bytes, such as the memory of arrays.

    >>> len(LargeBlob(b"head", (memoryview(b"of a crowd"),)))
    14
    """

    head: bytes
    buffers: tuple[memoryview, ...]

    def __hash__(self) -> int:
        return hash(self.head)  # what the buffers are views of may be changed

    def __len__(self) -> int:
        return len(self.head) + sum(buffer.nbytes for buffer in self.buffers)


Blob = bytes | LargeBlob
