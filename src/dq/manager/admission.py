"""Connections that have not authenticated yet, and how they authenticate."""

from __future__ import annotations

import threading
import time
from multiprocessing import AuthenticationError
from typing import TYPE_CHECKING

from dq._support.naming import setting
from dq.errors import TlsError
from dq.manager.rate_limited_log import RateLimitedLog
from dq.security import tls
from dq.security.tls import PLAIN, Tls
from dq.transport import handshake, limits
from dq.transport.addresses import Address
from dq.transport.channel import Channel
from dq.transport.handshake import TLS_HELLO_BYTE
from dq.transport.reading import MessageTooLarge

if TYPE_CHECKING:
    import ssl  # only encrypted connections need it

MOST_UNAUTHENTICATED = 64  # connections
PLACE_WAIT_S = 0.25  # that a new connection waits for a place before the oldest is closed
CALM_S = 1.0  # without such a close, after which the wait is the full one again
FIRST_WORD_TIMEOUT_S = 1.0  # in which a client has to begin with TLS, if TLS is required


class UnauthenticatedConnections:
    """Connections that have not authenticated yet, at most `MOST_UNAUTHENTICATED` of them.

    A new connection waits for a place: if a thousand peers with the key connect at once, each needs
    a place only for milliseconds. If no place becomes free, the oldest connection is closed and the
    wait is halved, because a flood of silent peers is not worth waiting for. Each peer that
    authenticates doubles the wait again.

    Attributes:
        grace: seconds after connecting in which a connection is not closed.
    """

    grace = 0.0

    def __init__(self) -> None:
        self._here: dict[Channel, float] = {}  # the time when each connected, in order of arrival
        self._left = threading.Condition()  # guards everything here
        self._patience = PLACE_WAIT_S
        self._ended_at = 0.0

    def join(self, channel: Channel) -> None:
        """Add a connection once there is a place. Only the accepting thread calls this."""
        with self._left:
            if time.monotonic() - self._ended_at > CALM_S:
                self._patience = PLACE_WAIT_S
            if not self._left.wait_for(self._has_room, self._wait()):
                self._end_oldest()
            self._here[channel] = time.monotonic() - channel.idle_seconds()

    def _has_room(self) -> bool:
        return len(self._here) < MOST_UNAUTHENTICATED

    def _wait(self) -> float:
        oldest = next(iter(self._here.values()), 0.0)
        return max(self._patience, oldest + self.grace - time.monotonic())

    def _end_oldest(self) -> None:
        oldest = next(iter(self._here))
        del self._here[oldest]
        oldest.shutdown()
        self._patience /= 2
        self._ended_at = time.monotonic()

    def leave(self, channel: Channel, *, authenticated: bool = False) -> None:
        """Remove a connection that has authenticated or ended."""
        with self._left:
            if channel in self._here:
                del self._here[channel]
                self._left.notify()
            if authenticated:
                self._patience = min(2 * self._patience + 0.001, PLACE_WAIT_S)


class Admission:
    """Admits clients that prove to have the key, and encrypts their connections.

    Args:
        authkey: the shared key.
        log: called with a line for each client that is refused, and the reason.

    Attributes:
        waiting: connections that have not authenticated yet.
    """

    def __init__(self, authkey: bytes, log: RateLimitedLog) -> None:
        self._authkey = authkey
        self._log = log
        self._tls = PLAIN
        self._context: ssl.SSLContext | None = None
        self.waiting = UnauthenticatedConnections()

    def encrypt(self, how: Tls, address: Address) -> None:
        """Use TLS; called before the first connection."""
        self._tls = how
        # A Unix socket stays on this machine, so it is not encrypted.
        if how.mode != "off" and not isinstance(address, str):
            self._context = how.server_context(self._authkey)
        if self._context is not None and not how.required:
            # A plain client waits for the challenge in the first half of it.
            self.waiting.grace = 2 * limits.TLS_WAIT_S

    def authenticates(self, conn: Channel) -> bool:
        """Whether the client has the key. If it does not, it has been refused."""
        host = conn.peer()
        try:
            self._secure(conn)
            handshake.deliver_challenge(conn, self._authkey)
            handshake.answer_challenge(conn, self._authkey)
        except (AuthenticationError, AssertionError, ValueError, OSError, EOFError, TlsError) as e:
            self._refuse(conn, host, e)
            return False
        self.waiting.leave(conn, authenticated=True)
        conn.acknowledge()  # otherwise Nagle's algorithm would delay a plain client's request
        return True

    def _secure(self, conn: Channel) -> None:
        """Encrypt the connection if its client begins with TLS. A plain client sends nothing, and
        waits for the challenge."""
        if self._context is None:
            return
        required = self._tls.required
        # In a flood, that time may have passed while the connection was in the listen queue.
        patience = max(0.0, limits.TLS_WAIT_S - conn.idle_seconds())
        first = conn.peek(FIRST_WORD_TIMEOUT_S if required else patience)
        if first == TLS_HELLO_BYTE:
            self._tls.check_peer(conn.accept_tls(self._context))
        elif required and not conn.peer_closed():
            conn.send_bytes(tls.ONLY[self._tls.mode])
            name = setting("tls")
            raise TlsError(f"it does not use TLS, and this master accepts nothing else ({name})")
        elif required:
            raise EOFError

    def _refuse(self, conn: Channel, host: str, error: BaseException) -> None:
        """Log why a client is refused, if the reason is TLS."""
        reason = str(error) if isinstance(error, TlsError) else self._reason(conn, error)
        if reason is not None:
            self._log.say(f"refused a connection from {host}: {reason}", about=reason)

    def _reason(self, conn: Channel, error: BaseException) -> str | None:
        if isinstance(error, MessageTooLarge):
            # The first bytes of a TLS client look like the length of a message.
            strict = error.size >> 16 == 0x1603 and tls.LENIENT.encode() not in conn.buffered()
            return "it wants TLS, which this master does not speak" if strict else None
        if isinstance(error, OSError) and tls.is_tls(error):
            return tls.explain_client(error, self._tls)
        return None
