"""One connection, on which messages are framed as the standard library frames them."""

from __future__ import annotations

import contextlib
import multiprocessing.connection as mpc
import pickle
import socket
from collections.abc import Callable, Sequence

from dq._support import platform
from dq._support.frozen import TYPE_CHECKING
from dq._support.naming import setting
from dq.core.records import Loads
from dq.security.tls import SpeaksPlain, answered_in_plain
from dq.transport.limits import ENVELOPE_BYTES, KEEPALIVE_S
from dq.transport.reading import MessageReader, MessageTooLarge, Stalled, Wire
from dq.transport.writing import MessageWriter

if TYPE_CHECKING:
    import ssl  # only encrypted connections need it
    from typing import Protocol

    class _Buffer(Protocol):
        def __buffer__(self, flags: int, /) -> memoryview: ...


_PEEK = int(socket.MSG_PEEK | socket.MSG_DONTWAIT)  # once, since it takes 1 of a call's 70 µs


class Channel:
    """One connection. It has the methods of `multiprocessing.connection.Connection` that managers
    use, and adds deadlines, a limit on messages, and a check whether the peer has closed its end.

    Args:
        sock: a connected socket, which the channel owns from now on.
        loads: unpickles messages.
        max_message: bytes of the largest object that `recv` accepts. A message may have
            `ENVELOPE_BYTES` more.
    """

    def __init__(
        self,
        sock: socket.socket,
        loads: Loads = pickle.loads,
        max_message: int | None = None,
    ) -> None:
        self.wire = Wire(sock)
        self.reader = MessageReader(self.wire)
        self._writer = MessageWriter(self.wire)
        self.keep_alive(KEEPALIVE_S)
        sock.settimeout(None)
        self._pending: Callable[[], int] = _none  # bytes that TLS has decrypted already
        self._is_shut = False
        self.loads = loads
        self.max_message = max_message
        self.on_received: Callable[[], None] = _nothing
        self.on_sent: Callable[[], None] = _nothing
        self.on_too_large: Callable[[MessageTooLarge], None] = _nothing
        self.on_stalled: Callable[[], None] = _nothing
        self.asked = False  # whether a message has been received and nothing sent since

    def __del__(self) -> None:
        # As in Connection: the standard library's proxies leave closing to garbage collection.
        self.wire.sock.close()

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def fileno(self) -> int:
        return self.wire.sock.fileno()

    @property
    def closed(self) -> bool:
        return self.wire.sock.fileno() < 0

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a task may have closed the descriptor
            self.wire.sock.close()

    def shutdown(self) -> None:
        """End the connection from another thread. A thread that is blocked on it wakes up."""
        self._is_shut = True
        with contextlib.suppress(OSError):
            # SSLSocket.shutdown would let a blocked thread go on without encryption.
            socket.socket.shutdown(self.wire.sock, socket.SHUT_RDWR)

    def set_deadline(self, seconds: float | None) -> None:
        """Set a deadline after which every operation fails with TimeoutError. It is for all of them
        together, so a peer that sends a byte now and then cannot extend it."""
        self.wire.set_deadline(seconds)

    def peer_sends_at_once(self) -> None:
        """Assume that the peer does not delay messages; dq's own connections do not."""
        self.reader.peer_delays = False

    def acknowledge(self) -> None:
        """Acknowledge at once what has been received. A peer with Nagle's algorithm delays its next
        message until then, and the system would wait 40 ms before it acknowledges."""
        platform.acknowledge(self.wire.sock)

    def keep_alive(self, seconds: int) -> None:
        """Close the connection after so many seconds without a response of the peer's machine."""
        interval = max(seconds // 5, 1)
        platform.keepalive(self.wire.sock, seconds - 3 * interval, interval, 3)

    def peer_closed(self) -> bool:
        """Whether the peer has closed its end."""
        if self.reader.buffered:
            return False
        try:
            # This peeks at encrypted bytes, which SSLSocket.recv does not allow.
            return socket.socket.recv(self.wire.sock, 1, _PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def may_send(self) -> bool:
        """Whether there is room to send some KiB without blocking. There is, unless the peer has
        left earlier messages unread."""
        return self.wire.is_writable()

    def peer(self) -> str:
        """The host on the other end."""
        try:
            name = self.wire.sock.getpeername()
        except OSError:
            return "somebody who has left"
        if not isinstance(name, tuple):
            return "this machine"
        host: str = name[0]
        # A socket for both families shows an IPv4 address like this.
        return host.removeprefix("::ffff:") if "." in host else host

    @property
    def is_encrypted(self) -> bool:
        """Whether it uses TLS. Then one thread must not send while another one receives, because
        both change the state of the encryption."""
        return self._pending is not _none

    def security(self) -> str:
        """How the connection is encrypted, for users."""
        if self.wire.sock.family == getattr(socket, "AF_UNIX", None):
            return "on this machine"
        if not self.is_encrypted:
            return "not encrypted"
        by = "certificates" if self.wire.sock.getpeercert(True) else "the key"  # type: ignore[attr-defined]  # an SSLSocket
        return f"encrypted (TLS from {by})"

    def buffered(self) -> bytes:
        """What else has been received, up to one chunk."""
        try:
            ready = mpc.wait([self.wire.sock], 0)
            return self.reader.buffered + (
                self.wire.sock.recv(4096, socket.MSG_PEEK) if ready else b""
            )
        except OSError:
            return self.reader.buffered

    def idle_seconds(self) -> float:
        """Seconds since the peer last sent something, or since it connected."""
        return platform.unheard(self.wire.sock)

    def peek(self, timeout: float | None) -> int | None:
        """The peer's first byte, which is not consumed; None on time-out."""
        if not mpc.wait([self.wire.sock], timeout):
            return None
        return next(iter(self.wire.sock.recv(1, socket.MSG_PEEK)), None)

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Whether there is something to read, or the connection ends, within `timeout` seconds."""
        if self.reader.buffered or self._pending():
            return True
        return self.wire.is_readable(timeout)

    def accept_tls(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        """Encrypt the connection from here on, as the server; within the deadline."""
        sock = self._wrap(context, None)
        self.wire.tick()
        sock.do_handshake()
        return sock

    def begin_tls(self, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
        """Encrypt the connection from here on, as the client; within the deadline.

        Raises:
            SpeaksPlain: the peer answers in plain.
        """
        sock = self._wrap(context, host)
        self.wire.tick()
        try:
            sock.do_handshake()
        except OSError as error:
            # Peeking cannot tell: OpenSSL reads the answer as soon as it has sent its hello.
            if answered_in_plain(error):
                raise SpeaksPlain from None
            raise
        return sock

    def _wrap(self, context: ssl.SSLContext, host: str | None) -> ssl.SSLSocket:
        server_side = host is None
        sock = context.wrap_socket(
            self.wire.sock,
            server_side=server_side,
            do_handshake_on_connect=False,
            server_hostname=host,
        )
        self.wire.sock = sock
        self._pending = sock.pending
        if self._is_shut:  # by another thread, while the socket was being wrapped
            raise OSError("the connection was ended")
        return sock

    def send(self, obj: object) -> None:
        self.reader.attachment = []  # before, since the next message may follow at once, or never
        self._writer.write(pickle.dumps(obj))
        self.asked = False
        self.on_sent()

    def recv(self) -> object:
        limit = self.max_message
        try:
            most = None if limit is None else limit + ENVELOPE_BYTES
            message = self._read(most, takes_attachments=True)
        except MessageTooLarge as error:
            self.on_too_large(error)
            try:
                self.reader.skip(error.size)
            except OSError:
                self.shutdown()
            raise MessageTooLarge(
                f"a message of {error.size} bytes; the limit is {limit} ({setting('max_message')})"
            ) from None
        self.on_received()  # first: another thread may just be ending the last answer
        self.asked = True
        return self.loads(message)

    def attach(self, buffers: Sequence[memoryview]) -> None:
        """Send these buffers along with the next message, without copying them into it. Only a
        `Channel` can receive them, each in memory of its own."""
        self._writer.to_attach = buffers

    def take_attachment(self) -> list[memoryview]:
        """The buffers that were attached to the last message. Their memory is the caller's."""
        taken, self.reader.attachment = self.reader.attachment, []
        return taken

    def send_bytes(self, buf: bytes) -> None:
        self._writer.write(buf)

    def send_zeros(self, size: int) -> None:
        """Answer a call with so many zeros. Few of them are in memory at a time, because a client
        that asks for them need not read them."""
        self.reader.attachment = []
        self._writer.write_zeros(size)
        self.asked = False
        self.on_sent()

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        return bytes(self._read(maxlength))

    def _read(self, limit: int | None, takes_attachments: bool = False) -> bytes | bytearray:
        try:
            return self.reader.read(limit, takes_attachments=takes_attachments)
        except Stalled:
            self.on_stalled()
            self.shutdown()
            raise
        except (MessageTooLarge, EOFError):
            raise
        except BaseException:  # MemoryError, say: what follows is the rest of this message
            self.shutdown()
            raise


def _nothing(*what: object) -> None:
    pass


def _none() -> int:
    return 0
