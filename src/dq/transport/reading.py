"""Messages out of a socket: in time, and no larger than they may be."""

from __future__ import annotations

import socket
import struct
import time

from dq._support import platform
from dq.transport import limits
from dq.transport.limits import COALESCE_LIMIT, GROW_FACTOR, GROW_STEP, RECV_CHUNK, SKIP_CHUNK


class MessageTooLarge(OSError):
    """Raised when a message is over the limit; `size` is what its sender announced."""

    size = 0


class Stalled(TimeoutError):
    """Raised when nothing more of a message has come for `limits.STALL_TIMEOUT_S`."""


class Wire:
    """A socket, and until when what is done with it has to be over."""

    __slots__ = ("deadline", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.deadline: float | None = None  # on the monotonic clock

    def set_deadline(self, seconds: float | None) -> None:
        """Let everything from now on fail with TimeoutError after so many seconds in all."""
        self.deadline = None if seconds is None else time.monotonic() + seconds
        if seconds is None:
            self.sock.settimeout(None)

    def tick(self) -> None:
        """Give what is done next the time that is left."""
        if self.deadline is None:
            return
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the peer took too long")
        self.sock.settimeout(left)

    def receive(self) -> bytes:
        """What there is, at most a chunk of it; b"" at the end."""
        self.tick()
        return self.sock.recv(RECV_CHUNK)


class MessageReader:
    """Finds messages in what comes over a wire, framed as the standard library frames them."""

    def __init__(self, wire: Wire) -> None:
        self.buffered = b""  # what was received beyond the message before
        # CPython sends the header of 16 KiB and more by itself, and by Nagle's rule the body no
        # sooner than that has been acknowledged. dq's own connections send at once.
        self.peer_delays = True
        self._wire = wire

    def read(self, limit: int | None) -> bytes | bytearray:
        """The next message.

        Raises:
            EOFError: there is none.
            MessageTooLarge: it has more than `limit` bytes.
            Stalled: its sender has stopped in the midst of it.
        """
        # Header and body in one call, mostly: each gives up the GIL and has to get it back.
        data, self.buffered = self.buffered or self._wire.receive(), b""
        if not data:
            raise EOFError
        data = self._at_least(4, data)
        (size,), start = struct.unpack_from("!i", data), 4
        if size == -1:
            data = self._at_least(12, data)
            (size,), start = struct.unpack_from("!Q", data, 4), 12
        if size < 0 or (limit is not None and size > limit):
            self.buffered = data[start:]
            error = MessageTooLarge(f"a message of {size} bytes")
            error.size = size
            raise error
        message, self.buffered = data[start : start + size], data[start + size :]
        return message if len(message) == size else self._complete(message, size)

    def skip(self, size: int) -> None:
        """Read what is left of a message to nowhere: its sender listens to no answer before it has
        sent all, and what follows is then the next.

        Raises:
            OSError: it does not end, or nothing of it has come for a while.
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
        """A message that goes on beyond what was received with its start."""
        wire = self._wire
        if self.peer_delays:
            # For each message: the system goes back to acknowledging late by itself.
            platform.acknowledge(wire.sock)
        if size <= COALESCE_LIMIT or wire.deadline is not None:
            return self._grow(start, size)
        wire.sock.settimeout(limits.STALL_TIMEOUT_S)
        try:
            return self._grow(start, size)
        except TimeoutError:
            text = f"nothing more of a message came for {limits.STALL_TIMEOUT_S:g} s"
            raise Stalled(text) from None
        finally:
            wire.sock.settimeout(None)

    def _grow(self, start: bytes, size: int) -> bytearray:
        # As its bytes come: to announce many costs nothing, and room for them would be memory.
        wire = self._wire
        buffer = bytearray(min(size, GROW_STEP))
        buffer[: len(start)] = start
        have = len(start)
        while have < size:
            if have == len(buffer):
                larger = bytearray(min(GROW_FACTOR * have, size))
                larger[:have] = buffer
                buffer = larger
            with memoryview(buffer)[have:] as view:
                wire.tick()
                count = wire.sock.recv_into(view)
            if not count:
                raise OSError("cut off")
            have += count
        return buffer
