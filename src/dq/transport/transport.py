"""Sockets: listening, connecting, the handshake, and messages framed as the standard library does.

`Listener` and `dial` are registered with `multiprocessing.managers` under the serializer name
"dq", the one place where it lets a manager bring its own; so a plain `BaseManager` on the other
end notices nothing.
"""

from __future__ import annotations

import contextlib
import errno
import hmac
import multiprocessing.connection as mpc
import os
import pickle
import socket
import struct
import sys
import time
from collections.abc import Callable
from multiprocessing import AuthenticationError

from dq._support import platform
from dq._support.frozen import TYPE_CHECKING
from dq._support.naming import setting
from dq.core.records import Loads
from dq.errors import AuthenticationFailed, ConnectError, TlsError, UnknownHost
from dq.security.tls import (
    ONLY,
    PLAIN,
    SpeaksPlain,
    Tls,
    answered_in_plain,
    can_psk,
    certificates,
    explain,
    is_tls,
    needs_newer,
    was_cut,
)

if TYPE_CHECKING:
    import ssl  # which plain connections do without
    from typing import Protocol

    class _Buffer(Protocol):
        def __buffer__(self, flags: int, /) -> memoryview: ...


Address = str | tuple[str, int]  # the path of a Unix socket, or host and port

_LOOK = int(socket.MSG_PEEK | socket.MSG_DONTWAIT)  # once: it is 1 µs of a call's 70
LEASES = "dq"  # ident of the lease face: a plain manager has none of that name
PROTOCOL = 4  # of the lease face
SERIALIZER = "dq"
# Enough for a thousand at once: who does not fit is dropped without a word, and a plain client then
# waits for ever. Not more, since in a flood all wait their turn: a quarter of a second, with this.
BACKLOG = 1024
KEEPALIVE = 25  # seconds after which a machine that says nothing counts as gone
HANDSHAKE = 5.0  # seconds that a peer has to authenticate and say what it wants
MAX_MESSAGE = 64 * 1024 * 1024  # bytes; one message cannot exhaust the receiver
# Bytes that a message may have around its inputs or results: one task's failure, in words of up to
# four bytes a character, is the largest of what there is.
MARGIN = 256 * 1024
PASSED_OVER = 64 * 1024  # bytes read at once of a message that is not taken
# Bytes received at once where nobody knows how many there are: most messages of one task. Who waits
# for a message has room for so many, and 8 KiB for each of ten thousand would be 80 MB.
PAGE = 448
JOINED = 64 * 1024  # bytes up to which copying header and body together beats a second write
ROOM = 1024 * 1024  # bytes that room is made for at once, where a message is said to be longer
GROWTH = 4  # times as much room once that is full: with less, large messages would be slower
# Seconds in which something more of a message has to come. One of up to JOINED bytes takes no more
# than a peer that says nothing between two, and is waited for as long.
SILENCE = 60.0
PATIENCE = 0.05  # seconds that a master waits for a client to begin with TLS
CLOSED = "the connection was closed during the handshake"
ATTEMPTS = 3  # times that a client begins with TLS, where the master may have lost patience
LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # for what listens everywhere
HELLO = 0x16  # the first byte of a TLS client


class MessageTooLarge(OSError):
    """Raised when a message is over the limit; `size` is what its sender announced."""

    size = 0


class Channel:
    """One connection, with the methods of `multiprocessing.connection.Connection` that managers
    use, and what those lack: deadlines, a limit on messages, a look at whether the peer has gone.

    Args:
        sock: a connected socket, owned from now on.
        loads: how a message becomes an object.
        max_message: bytes of the largest object that `recv` takes, `MARGIN` around it aside.
    """

    def __init__(
        self,
        sock: socket.socket,
        loads: Loads = pickle.loads,
        max_message: int | None = None,
    ) -> None:
        self._sock = sock
        self.keep_alive(KEEPALIVE)
        sock.settimeout(None)
        self._deadline: float | None = None
        self._pending: Callable[[], int] = _none  # bytes that TLS has taken off the socket
        self._hung_up = False
        self._rest = b""  # what was received beyond the message before
        self.loads = loads
        self.max_message = max_message
        self.on_received: Callable[[], None] = _nothing
        self.on_sent: Callable[[], None] = _nothing
        self.on_too_large: Callable[[MessageTooLarge], None] = _nothing
        self.on_silent: Callable[[], None] = _nothing
        self.asked = False  # whether a message has been received and nothing sent since
        # CPython sends the header of 16 KiB and more by itself, and by Nagle's rule the body no
        # sooner than that has been acknowledged. dq's own connections send at once.
        self.peer_delays = True

    def __del__(self) -> None:
        # As Connection's: the standard library's proxies leave closing to the collector.
        self._sock.close()

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def closed(self) -> bool:
        return self._sock.fileno() < 0

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a task may have closed the descriptor
            self._sock.close()

    def hang_up(self) -> None:
        """End the connection from another thread: who is blocked on it wakes up."""
        self._hung_up = True
        with contextlib.suppress(OSError):
            # An SSLSocket's own would let who is blocked on it go on in plain.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def set_deadline(self, seconds: float | None) -> None:
        """Let everything from now on fail with TimeoutError after so many seconds in all: a peer
        that sends a byte now and then gains nothing by it."""
        self._deadline = None if seconds is None else time.monotonic() + seconds
        if seconds is None:
            self._sock.settimeout(None)

    def acknowledge(self) -> None:
        """Have the system say at once what has been received: a peer that sends by Nagle's rule
        keeps its next message until then, 40 ms where that is left to the system."""
        platform.acknowledge(self._sock)

    def keep_alive(self, seconds: int) -> None:
        """Count the peer as gone once its machine has said nothing for so long."""
        interval = max(seconds // 5, 1)
        platform.keepalive(self._sock, seconds - 3 * interval, interval, 3)

    def gone(self) -> bool:
        """Whether the peer has closed its end."""
        if self._rest:
            return False
        try:
            # Of what TLS has encrypted, which an SSLSocket's own refuses to look at.
            return socket.socket.recv(self._sock, 1, _LOOK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def peer(self) -> str:
        """The host on the other end."""
        try:
            name = self._sock.getpeername()
        except OSError:
            return "somebody who has left"
        if not isinstance(name, tuple):
            return "this machine"
        host: str = name[0]
        # How a socket of both families shows an IPv4 address.
        return host.removeprefix("::ffff:") if "." in host else host

    def security(self) -> str:
        """How the connection is encrypted, for people."""
        if self._sock.family == getattr(socket, "AF_UNIX", None):
            return "on this machine"
        if self._pending is _none:
            return "not encrypted"
        by = "certificates" if self._sock.getpeercert(True) else "the key"  # type: ignore[attr-defined]  # an SSLSocket
        return f"encrypted (TLS from {by})"

    def rest(self) -> bytes:
        """What else has come, up to a page of it."""
        try:
            ready = mpc.wait([self._sock], 0)
            return self._rest + (self._sock.recv(4096, socket.MSG_PEEK) if ready else b"")
        except OSError:
            return self._rest

    def idle(self) -> float:
        """Seconds since the peer was last heard of: at first, since it connected."""
        return platform.unheard(self._sock)

    def first_byte(self, timeout: float | None) -> int | None:
        """What the peer begins with; None when there is nothing within `timeout` seconds."""
        if not mpc.wait([self._sock], timeout):
            return None
        return next(iter(self._sock.recv(1, socket.MSG_PEEK)), None)

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Whether there is something to read, or the end, within `timeout` seconds."""
        return bool(self._rest or self._pending() or mpc.wait([self._sock], timeout))

    def accept_tls(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        """Encrypt the connection from here on, as the server; within the deadline."""
        sock = self._wrap(context, None)
        self._tick()
        sock.do_handshake()
        return sock

    def begin_tls(self, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
        """Encrypt the connection from here on, as the client; within the deadline.

        Raises:
            SpeaksPlain: the peer answers in plain.
        """
        sock = self._wrap(context, host)
        self._tick()
        try:
            sock.do_handshake()
        except OSError as error:
            # No look at what has come would do: OpenSSL takes it as soon as it has said hello.
            if answered_in_plain(error):
                raise SpeaksPlain from None
            raise
        return sock

    def _wrap(self, context: ssl.SSLContext, host: str | None) -> ssl.SSLSocket:
        server_side = host is None
        sock = context.wrap_socket(
            self._sock,
            server_side=server_side,
            do_handshake_on_connect=False,
            server_hostname=host,
        )
        self._sock = sock
        self._pending = sock.pending
        if self._hung_up:  # by another thread, when neither socket could be found
            raise OSError("the connection was ended")
        return sock

    def send(self, obj: object) -> None:
        self.send_bytes(pickle.dumps(obj))
        self.asked = False
        self.on_sent()

    def recv(self) -> object:
        limit = self.max_message
        try:
            message = self._read_message(None if limit is None else limit + MARGIN)
        except MessageTooLarge as error:
            self.on_too_large(error)
            self._pass_over(error.size)
            raise MessageTooLarge(
                f"a message of {error.size} bytes; the limit is {limit} ({setting('max_message')})"
            ) from None
        self.asked = True
        self.on_received()
        return self.loads(message)

    def send_bytes(self, buf: bytes) -> None:
        self._tick()
        size = len(buf)
        header = struct.pack("!i", size) if size <= 0x7FFFFFFF else struct.pack("!iQ", -1, size)
        if size <= JOINED:
            self._sock.sendall(header + buf)
        else:
            self._sock.sendall(header)
            self._sock.sendall(buf)

    def send_zeros(self, size: int) -> None:
        """Send what a call returns that returns so many zeros, of which few are ever in memory: who
        asks for them need not read them."""
        start = b"\x80\x03X\x07\0\0\0#RETURNB" + struct.pack("<I", size)
        piece = bytes(min(size, ROOM))
        self._tick()
        self._sock.sendall(struct.pack("!iQ", -1, len(start) + size + 2) + start)
        for sent in range(0, size, ROOM):
            self._sock.sendall(memoryview(piece)[: size - sent])
        self._sock.sendall(b"\x86.")
        self.asked = False
        self.on_sent()

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        return bytes(self._read_message(maxlength))

    def _read_message(self, limit: int | None) -> bytes | bytearray:
        # Header and body in one call, mostly: each gives up the GIL and has to get it back.
        data, self._rest = self._rest or self._receive(), b""
        if not data:
            raise EOFError
        data = self._at_least(4, data)
        (size,), start = struct.unpack_from("!i", data), 4
        if size == -1:
            data = self._at_least(12, data)
            (size,), start = struct.unpack_from("!Q", data, 4), 12
        if size < 0 or (limit is not None and size > limit):
            self._rest = data[start:]
            error = MessageTooLarge(f"a message of {size} bytes")
            error.size = size
            raise error
        message, self._rest = data[start : start + size], data[start + size :]
        return message if len(message) == size else self._filled(message, size)

    def _pass_over(self, size: int) -> None:
        """Read what is left of a message to nowhere: its sender listens to no answer before it has
        sent all, and what follows is then the next. Who sends nothing of it for a while is ended.
        """
        self._rest, left = self._rest[max(size, 0) :], size - len(self._rest)
        nowhere = bytearray(PASSED_OVER)
        try:
            while left > 0:
                self._sock.settimeout(HANDSHAKE)
                self._tick()
                count = self._sock.recv_into(nowhere, min(left, PASSED_OVER))
                if not count:
                    raise OSError("cut off")
                left -= count
            if size < 0:
                raise OSError("no such size")
            self._sock.settimeout(None)
        except OSError:
            self.hang_up()

    def _receive(self) -> bytes:
        self._tick()
        return self._sock.recv(PAGE)

    def _at_least(self, size: int, data: bytes) -> bytes:
        while len(data) < size:
            more = self._receive()
            if not more:
                raise OSError("cut off")
            data += more
        return data

    def _filled(self, start: bytes, size: int) -> bytearray:
        """A message that goes on beyond what was received with its start."""
        if self.peer_delays:
            # For each message: the system goes back to acknowledging late by itself.
            self.acknowledge()
        limited = size > JOINED and self._deadline is None
        if limited:
            self._sock.settimeout(SILENCE)
        try:
            return self._grown(start, size)
        except TimeoutError:
            if limited:
                self.on_silent()
                self.hang_up()
                raise TimeoutError(f"nothing more of a message came for {SILENCE:g} s") from None
            raise
        finally:
            if limited:
                self._sock.settimeout(None)

    def _grown(self, start: bytes, size: int) -> bytearray:
        # As its bytes come: to announce many costs nothing, and room for them would be memory.
        buffer = bytearray(min(size, ROOM))
        buffer[: len(start)] = start
        have = len(start)
        while have < size:
            if have == len(buffer):
                larger = bytearray(min(GROWTH * have, size))
                larger[:have] = buffer
                buffer = larger
            with memoryview(buffer)[have:] as view:
                self._tick()
                count = self._sock.recv_into(view)
            if not count:
                raise OSError("cut off")
            have += count
        return buffer

    def _tick(self) -> None:
        if self._deadline is not None:
            self._sock.settimeout(self._left())

    def _left(self) -> float | None:
        """Seconds until the deadline."""
        if self._deadline is None:
            return None
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the peer took too long")
        return left


def _nothing(*what: object) -> None:
    pass


def _none() -> int:
    return 0


class Listener:
    """A listening socket, with the interface of `multiprocessing.connection.Listener`.

    Unlike that one it knows IPv6 (CPython passes every tuple to AF_INET), queues more than a
    handful of connections, and can be woken.

    Args:
        address: host and port, or the path of a Unix socket; the host '' is every address of this
            machine, of IPv4 and IPv6.
        backlog: ignored; the standard library's 16 drops connections under load.

    Attributes:
        address: where it listens; where that is both families, the host is IPv4's 0.0.0.0, which a
            plain `BaseManager` can connect to.
    """

    def __init__(self, address: Address, backlog: int = BACKLOG) -> None:
        self._path = address if isinstance(address, str) else None
        self._sock = _bound(address)
        self._sock.listen(BACKLOG)
        self._wake, self._woken = socket.socketpair()
        name = self._sock.getsockname()
        self._both = address[0] == "" and name[0] == "::" and _has_ipv4()
        host = "0.0.0.0" if self._both else name[0]
        self.address: Address = name if isinstance(name, str) else (host, name[1])

    def __str__(self) -> str:
        """Where it listens, for people."""
        shown = show(self.address)
        return f"{shown} and {show(('::', int(self.address[1])))}" if self._both else shown

    def accept(self) -> Channel:
        """Wait for a connection.

        Raises:
            OSError: there are no more descriptors, say; or the listener is closed.
        """
        if self._woken in mpc.wait([self._sock, self._woken]):
            raise OSError("the listener is closed")
        sock, _ = self._sock.accept()
        return Channel(sock)

    def wake(self) -> None:
        """Let `accept` raise, now and from now on."""
        with contextlib.suppress(OSError):
            self._wake.send(b"x")

    def let_go(self) -> None:
        """Close what this process has of it, which another goes on with after a fork."""
        for sock in (self._sock, self._wake, self._woken):
            sock.close()

    def close(self) -> None:
        self.let_go()
        if self._path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._path)


def _bound(address: Address) -> socket.socket:
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX)
        return _bind(sock, address)
    host, port = address
    if not host:
        return _bound_everywhere(port)
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # Of a name's addresses IPv4's first, where there is one: a plain BaseManager has no others.
    *others, last = sorted(infos, key=lambda info: info[0] != socket.AF_INET)
    for info in others:
        try:
            return _bound_to(info[0], info[4])
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
    return _bound_to(last[0], last[4])


def _bound_to(family: int, target: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family)
    if family == socket.AF_INET6 and target[0] == "::":
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    return _bind(sock, target)


def _bound_everywhere(port: int) -> socket.socket:
    """One socket for both families; for the one that there is where the other is missing."""
    try:
        sock = socket.socket(socket.AF_INET6)
    except OSError:
        return _bind(socket.socket(socket.AF_INET), ("", port))
    try:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        return _bind(sock, ("::", port))
    except OSError as error:
        sock.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise
    return _bind(socket.socket(socket.AF_INET), ("", port))


def _has_ipv4() -> bool:
    try:
        socket.socket(socket.AF_INET).close()
    except OSError:
        return False
    return True


def _bind(sock: socket.socket, address: object) -> socket.socket:
    try:
        # On Windows SO_REUSEADDR lets two listeners share a port (CPython issue 2550).
        if os.name == "posix" and sock.family != getattr(socket, "AF_UNIX", None):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)  # type: ignore[arg-type]  # what getaddrinfo gave, or a path
    except BaseException:
        sock.close()
        raise
    return sock


def reachable(host: str, port: int) -> tuple[str, int]:
    """Where this machine finds what listens there.

    >>> reachable("", 5000), reachable("10.0.0.2", 5000)
    (('127.0.0.1', 5000), ('10.0.0.2', 5000))
    """
    return LOOPBACK.get(host, host), port


def outside(host: str, port: int) -> tuple[str, int]:
    """Where other machines find what listens there, as far as this one knows.

    >>> outside("10.0.0.2", 5000)
    ('10.0.0.2', 5000)
    """
    if host not in LOOPBACK:
        return host, port
    own = platform.outward_address(ipv6=False) if host != "::" else None
    return own or platform.outward_address(ipv6=True) or socket.gethostname(), port


def open_socket(address: Address, timeout: float | None = None) -> socket.socket:
    """A socket connected to an address, within `timeout` seconds for each way to it."""
    if not isinstance(address, str):
        sock = socket.create_connection(reachable(*address), timeout)
        return platform.moved_up(sock)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(timeout)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return platform.moved_up(sock)


def dial(
    address: Address,
    authkey: bytes | None = None,
    timeout: float | None = HANDSHAKE,
    tls: Tls = PLAIN,
) -> Channel:
    """Connect and authenticate, as `multiprocessing.connection.Client` does; same errors."""
    channel = None
    if tls.mode != "off" and authkey is not None and not isinstance(address, str):
        channel = _dial_tls(address, authkey, timeout, tls)
    if channel is None:
        channel = Channel(open_socket(address, timeout))
    try:
        if authkey is not None:
            channel.set_deadline(timeout)
            answer_challenge(channel, authkey)
            deliver_challenge(channel, authkey)
            channel.set_deadline(None)
    except BaseException:
        channel.close()
        raise
    return channel


def _dial_tls(
    address: tuple[str, int], authkey: bytes, timeout: float | None, tls: Tls
) -> Channel | None:
    """Connect with TLS; None where the master speaks none, and need not.

    A master that speaks both answers in plain when it has waited for `PATIENCE`, and a busy
    machine may be slower than that to say hello: one that was not quick to answer is asked again.
    """
    context = tls.client_context(authkey)  # ahead of connecting, which starts the master's watch
    for _ in range(ATTEMPTS):
        channel = Channel(open_socket(address, timeout))
        started = time.monotonic()
        try:
            channel.set_deadline(timeout)
            tls.check_peer(channel.begin_tls(context, _name_of(address[0])))
            return channel
        except SpeaksPlain:
            channel.close()
            if time.monotonic() - started < 0.8 * PATIENCE:
                break
        except BaseException:
            channel.close()
            raise
    if tls.required:
        raise SpeaksPlain
    return None


def _name_of(host: str) -> str:
    """A host as its certificate names it: without the scope of an IPv6 address."""
    return (host or "127.0.0.1").partition("%")[0]


def connect(
    address: Address, authkey: bytes, timeout: float = HANDSHAKE, tls: Tls = PLAIN
) -> Channel:
    """Connect and authenticate, with errors for people.

    Raises:
        AuthenticationFailed: the keys differ.
        TlsError: the connection cannot be encrypted as it has to be.
        ConnectError: anything else; the message says what and where.
    """
    where = show(address)
    try:
        return dial(address, authkey, timeout, tls)
    except SpeaksPlain:
        raise TlsError(
            f"{where} does not use TLS: it is a master without it, or no master"
        ) from None
    except TlsError as error:
        raise TlsError(f"the master at {where} {error}") from None
    except AuthenticationError:
        raise AuthenticationFailed(
            f"the master at {where} has another authkey; give both ends the same one"
        ) from None
    except socket.gaierror as error:
        text = f"cannot resolve the host in {where}: {error.strerror}"
        unknown = error.errno == socket.EAI_NONAME  # not a name server that is out of reach
        raise (UnknownHost if unknown else ConnectError)(text) from None
    except UnicodeError:
        raise UnknownHost(f"cannot resolve the host in {where}: that is no host's name") from None
    except ConnectionRefusedError:
        raise ConnectError(f"nobody listens at {where}; is the master running?") from None
    except TimeoutError:
        raise ConnectError(
            f"cannot connect to {where}: nothing there answers as a dq master"
        ) from None
    except (EOFError, ConnectionError) as error:
        raise ConnectError(f"cannot connect to {where}: {str(error) or CLOSED}") from None
    except OSError as error:
        if was_cut(error):
            raise ConnectError(f"cannot connect to {where}: {CLOSED}") from None
        if is_tls(error):
            raise explain(error, tls, where) from None
        raise ConnectError(f"cannot connect to {where}: {error.strerror or error}") from None
    except (AssertionError, ValueError):  # how the standard library says "that is no challenge"
        raise ConnectError(f"what listens at {where} is not a dq master") from None


def answer_challenge(channel: Channel, authkey: bytes) -> None:
    """The standard library's half of the handshake in which one proves to have the key.

    Raises:
        TlsError: the master says that it takes TLS connections only.
    """
    try:
        mpc.answer_challenge(channel, authkey)  # type: ignore[arg-type]  # it uses two methods
    except (AssertionError, AuthenticationError) as error:
        for mode, words in ONLY.items():
            if words.decode() in str(error):
                raise TlsError(_only(mode)) from None
        raise


def _only(mode: str) -> str:
    if mode == "certs":
        return f"takes TLS connections with certificates only; give {certificates()}"
    if can_psk():
        return f"takes encrypted connections only: leave out {setting('tls', 'off')}"
    return f"takes encrypted connections only, and {needs_newer()}"


def deliver_challenge(channel: Channel, authkey: bytes) -> None:
    """The half in which the peer proves it; in constant time, which CPython's is from 3.12 on."""
    if sys.version_info >= (3, 12):
        mpc.deliver_challenge(channel, authkey)  # type: ignore[arg-type]  # it uses two methods
        return
    message = os.urandom(20)
    channel.send_bytes(b"#CHALLENGE#" + message)
    response = channel.recv_bytes(256)
    if not hmac.compare_digest(response, hmac.new(authkey, message, "md5").digest()):
        channel.send_bytes(b"#FAILURE#")
        raise AuthenticationError("digest received was wrong")
    channel.send_bytes(b"#WELCOME#")


def show(address: Address) -> str:
    """An address as people write it.

    >>> show(("::1", 5000)), show(("", 5000)), show("/tmp/socket")
    ('[::1]:5000', '0.0.0.0:5000', '/tmp/socket')
    """
    if isinstance(address, str):
        return address
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host or '0.0.0.0'}:{port}"


def explain_bind(address: Address, error: OSError | UnicodeError) -> str:
    """Why an address cannot be listened on, and what to do."""
    where = show(address)
    if isinstance(error, UnicodeError):
        return f"cannot resolve the host in {where}: that is no host's name"
    if isinstance(error, socket.gaierror):
        return f"cannot resolve the host in {where}: {error.strerror}"
    if error.errno == errno.EADDRINUSE and not isinstance(address, str):
        who = platform.who_listens(address[1])
        by = f"by {who}" if who else "perhaps by another master"
        return f"port {address[1]} is in use, {by}; {setting('port', 0)} takes a free one"
    if error.errno == errno.EACCES and not isinstance(address, str) and address[1] < 1024:
        return f"port {address[1]} is privileged; take one from 1024 on"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"cannot listen on {where}: this machine has no such address"
    return f"cannot listen on {where}: {error.strerror or error}"
