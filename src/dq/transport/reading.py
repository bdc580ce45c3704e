"""Reads messages from a socket, with limits on time and size."""

from __future__ import annotations

import contextlib
import multiprocessing.connection as mpc
import select
import socket
import struct
import time
from collections.abc import Iterator, Sequence

from dq._support import platform
from dq._support.arrays import LARGE_BYTES
from dq._support.memory import memory
from dq.transport import limits
from dq.transport.limits import COALESCE_LIMIT, GROW_FACTOR, GROW_STEP, RECV_CHUNK, SKIP_CHUNK

# What a header has in place of a size. The standard library has the first one.
LONG_MESSAGE = -1  # the size follows, in 8 bytes
# The size of the message, the number of buffers behind it, and their sizes follow, in 8 bytes each.
WITH_ATTACHMENT = -2
MAX_BUFFERS = 1000  # in one system call; Linux takes 1,024


class MessageTooLarge(OSError):
    """Raised when a message is over the limit; `size` is what its sender announced."""

    size = 0


class Stalled(TimeoutError):
    """Raised when no more of a message has arrived for `limits.STALL_TIMEOUT_S`."""


class Wire:
    """A socket with a deadline for its operations."""

    __slots__ = ("deadline", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.deadline: float | None = None  # on the monotonic clock

    def set_deadline(self, seconds: float | None) -> None:
        """Make all operations after so many seconds fail with TimeoutError."""
        self.deadline = None if seconds is None else time.monotonic() + seconds
        if seconds is None:
            self.sock.settimeout(None)

    def tick(self) -> None:
        """Set the socket's time-out to what is left until the deadline."""
        if self.deadline is None:
            return
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the peer took too long")
        self.sock.settimeout(left)

    def is_readable(self, timeout: float | None) -> bool:
        """Whether there is something to receive, or the end, within so many seconds."""
        if not hasattr(select, "poll"):  # Windows
            return bool(mpc.wait([self.sock], timeout))
        poll = select.poll()  # a tenth of the time of `mpc.wait`, on the path of single calls
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(None if timeout is None else max(timeout, 0.0) * 1000))

    def is_writable(self) -> bool:
        """Whether something can be sent without blocking, or fails at once."""
        if self.sock.fileno() < 0:
            return True
        if not hasattr(select, "poll"):  # Windows
            return bool(select.select([], [self.sock], [], 0)[1])
        poll = select.poll()
        poll.register(self.sock, select.POLLOUT)
        return bool(poll.poll(0))

    def send_all(self, buffers: Sequence[memoryview]) -> None:
        """Send several buffers, in few system calls if possible."""
        left = list(buffers)
        if not self._scatters:
            for buffer in left:
                self.tick()
                self.sock.sendall(buffer)
            return
        while left:
            self.tick()
            left = _after(left, self.sock.sendmsg(left[:MAX_BUFFERS]))

    def fill(self, buffers: Sequence[memoryview]) -> None:
        """Receive as many bytes as several buffers have.

        Raises:
            OSError: the connection has ended before.
        """
        left = list(buffers)
        while left:
            self.tick()
            if len(left) == 1 or not self._scatters:
                count = self.sock.recv_into(left[0])
            else:
                count = self.sock.recvmsg_into(left[:MAX_BUFFERS])[0]
            if not count:
                raise OSError("cut off")
            left = _after(left, count)

    @property
    def _scatters(self) -> bool:
        """Whether a call can have several buffers: not with TLS, and not on Windows."""
        return type(self.sock) is socket.socket and hasattr(self.sock, "recvmsg_into")

    def receive(self) -> bytes:
        """Receive at most one chunk; b"" at the end."""
        self.tick()
        return self.sock.recv(RECV_CHUNK)


def _after(buffers: Sequence[memoryview], count: int) -> list[memoryview]:
    """What is left of buffers after so many bytes."""
    for place, buffer in enumerate(buffers):
        if count < buffer.nbytes:
            return [buffer[count:], *buffers[place + 1 :]]
        count -= buffer.nbytes
    return []


class MessageReader:
    """Reads messages that are framed as the standard library frames them."""

    def __init__(self, wire: Wire) -> None:
        self.buffered = b""  # bytes received after the last message
        self.attachment: list[memoryview] = []  # the last message's buffers
        # For a message over 16 KiB, CPython sends the header first, and Nagle's algorithm delays
        # the body until the header is acknowledged. dq's own connections have no such delay.
        self.peer_delays = True
        self._wire = wire

    def read(self, limit: int | None, *, takes_attachments: bool = False) -> bytes | bytearray:
        """The next message.

        Args:
            limit: bytes that it may have; None for any number.
            takes_attachments: whether it may have an attachment, which counts towards the limit.

        Raises:
            EOFError: there is none.
            MessageTooLarge: it has more than `limit` bytes.
            Stalled: its sender has stopped in the middle of it.
            OSError: it is cut off, or no message has such a header.
        """
        # Mostly one call gets header and body. Each call releases the GIL and has to reacquire it.
        data, self.buffered = self.buffered or self._wire.receive(), b""
        if not data:
            raise EOFError
        data = self._at_least(4, data)
        sizes: tuple[int, ...] = ()
        (size,), start = struct.unpack_from("!i", data), 4
        if size == LONG_MESSAGE:
            data = self._at_least(12, data)
            (size,), start = struct.unpack_from("!Q", data, 4), 12
        elif size == WITH_ATTACHMENT and takes_attachments:
            data, size, sizes = self._attached_header(data, limit)
            start = 20 + 8 * len(sizes)
        attached = sum(sizes)
        if size < 0 or (limit is not None and size + attached > limit):
            self.buffered = data[start:]
            error = MessageTooLarge(f"a message of {size + attached} bytes")
            error.size = size + attached
            raise error
        begun, self.buffered = data[start : start + size], data[start + size :]
        message = begun if len(begun) == size else self._complete(begun, size)
        self.attachment = self._read_attachment(sizes) if sizes else []
        return message

    def _attached_header(
        self, data: bytes, limit: int | None
    ) -> tuple[bytes, int, tuple[int, ...]]:
        """What has been received, with the whole header of a message with buffers in it; the size
        of the message, and those of its buffers.

        Raises:
            OSError: its buffers are too many, or some take more memory than they have bytes.
        """
        data = self._at_least(20, data)
        size, count = struct.unpack_from("!QQ", data, 4)
        if limit is not None and count * LARGE_BYTES > limit:
            raise OSError("more buffers than a message may have")  # its sizes are not known
        if len(data) < 20 + 8 * count:
            with self._stall_timeout():
                data = self._at_least(20 + 8 * count, data)
        sizes = struct.unpack_from(f"!{count}Q", data, 20)
        if min(sizes, default=LARGE_BYTES) < LARGE_BYTES:
            raise OSError("buffers that cost more than they have")
        return data, size, sizes

    def skip(self, size: int) -> None:
        """Read and discard the rest of a message. Its sender reads no answer before it has sent all
        of it, and the next message can be read after that.

        Raises:
            OSError: the message has no valid size, or stopped arriving.
        """
        wire = self._wire
        self.buffered, left = self.buffered[max(size, 0) :], size - len(self.buffered)
        nowhere = bytearray(SKIP_CHUNK)
        while left > 0:
            wire.sock.settimeout(limits.HANDSHAKE_TIMEOUT_S)
            wire.tick()
            count = wire.sock.recv_into(nowhere, min(left, SKIP_CHUNK))
            if not count:
                raise OSError("cut off")
            left -= count
        if size < 0:
            raise OSError("no such size")
        wire.sock.settimeout(None)

    def _at_least(self, size: int, data: bytes) -> bytes:
        while len(data) < size:
            more = self._wire.receive()
            if not more:
                raise OSError("cut off")
            data += more
        return data

    def _complete(self, start: bytes, size: int) -> bytearray:
        """Receive the rest of a message whose start was received with its header."""
        if self.peer_delays:
            # For each message, because the system resets this by itself.
            platform.acknowledge(self._wire.sock)
        if size <= COALESCE_LIMIT:
            return self._grow(start, size)
        with self._stall_timeout():
            return self._grow(start, size)

    def _read_attachment(self, sizes: Sequence[int]) -> list[memoryview]:
        """Receive the buffers of a message, straight into the memory where they stay. Each has its
        own, so that a value that is kept keeps no others in memory."""
        found: list[memoryview] = []
        with self._stall_timeout():
            while len(found) < len(sizes):
                begun, nbytes = len(found), 0
                # Allocated as bytes arrive, because a peer can announce any size at no cost.
                while nbytes < GROW_STEP and len(found) < len(sizes):
                    found.append(memory.take(sizes[len(found)]))
                    nbytes += found[-1].nbytes
                # What came with the message is less than a chunk, and a buffer is more.
                start, self.buffered = self.buffered, b""
                found[begun][: len(start)] = start
                self._wire.fill([found[begun][len(start) :], *found[begun + 1 :]])
        return found

    @contextlib.contextmanager
    def _stall_timeout(self) -> Iterator[None]:
        """Raise `Stalled` if nothing arrives for some time. A deadline takes precedence."""
        wire = self._wire
        if wire.deadline is not None:
            yield
            return
        wire.sock.settimeout(limits.STALL_TIMEOUT_S)
        try:
            yield
        except TimeoutError:
            text = f"nothing more of a message came for {limits.STALL_TIMEOUT_S:g} s"
            raise Stalled(text) from None
        finally:
            wire.sock.settimeout(None)

    def _grow(self, start: bytes, size: int) -> bytearray:
        # Allocated as bytes arrive, because a peer can announce any size at no cost.
        buffer = bytearray(min(size, GROW_STEP))
        buffer[: len(start)] = start
        have = len(start)
        while have < size:
            if have == len(buffer):
                larger = bytearray(min(GROW_FACTOR * have, size))
                larger[:have] = buffer
                buffer = larger
            with memoryview(buffer)[have:] as view:
                self._wire.fill([view])
            have = len(buffer)
        return buffer
