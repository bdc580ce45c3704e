"""Who is let in: connections that have not authenticated, and how they do."""

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
    import ssl  # which plain connections do without

MOST_UNAUTHENTICATED = 64  # connections
PLACE_WAIT_S = 0.25  # that a newer one waits for a place before it ends the oldest
CALM_S = 1.0  # without such an end, after which one is waited for again
FIRST_WORD_TIMEOUT_S = 1.0  # that a client has to begin with TLS where nothing else is taken


class UnauthenticatedConnections:
    """Connections that have not authenticated yet, `MOST_UNAUTHENTICATED` of them at the most.

    A newer one waits for a place: where a thousand who have the key come at once, each needs one
    for milliseconds. Where none comes free the oldest is ended, and the wait is halved: a flood
    of silent peers is not to be waited for. Who does authenticate doubles it again.

    Attributes:
        grace: seconds from connecting on in which none is ended.
    """

    grace = 0.0

    def __init__(self) -> None:
        self._here: dict[Channel, float] = {}  # when each connected, in order of arrival
        self._left = threading.Condition()  # guards all of this
        self._patience = PLACE_WAIT_S
        self._ended_at = 0.0

    def join(self, channel: Channel) -> None:
        """Take one in, once there is room; for the one thread that accepts."""
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
        """It is none any more."""
        with self._left:
            if channel in self._here:
                del self._here[channel]
                self._left.notify()
            if authenticated:
                self._patience = min(2 * self._patience + 0.001, PLACE_WAIT_S)


class Admission:
    """Lets in who proves to have the key, encrypted where it has to be.

    Args:
        authkey: the shared key.
        log: told, in one line each, who is refused and why.

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
        """Speak TLS, and with what; before the first connection."""
        self._tls = how
        # On this machine's own sockets there is nobody in between.
        if how.mode != "off" and not isinstance(address, str):
            self._context = how.server_context(self._authkey)
        if self._context is not None and not how.required:
            # A plain client spends the first half of it waiting for the challenge.
            self.waiting.grace = 2 * limits.TLS_WAIT_S

    def authenticates(self, conn: Channel) -> bool:
        """Whether the client has the key; it has been refused where it has not."""
        host = conn.peer()
        try:
            self._secure(conn)
            handshake.deliver_challenge(conn, self._authkey)
            handshake.answer_challenge(conn, self._authkey)
        except (AuthenticationError, AssertionError, ValueError, OSError, EOFError, TlsError) as e:
            self._refuse(conn, host, e)
            return False
        self.waiting.leave(conn, authenticated=True)
        conn.acknowledge()  # CPython's client has said "welcome", and goes on by Nagle's rule
        return True

    def _secure(self, conn: Channel) -> None:
        """Encrypt the connection where its client begins with that: a plain one waits for the
        challenge."""
        if self._context is None:
            return
        required = self._tls.required
        # In a flood, all of that has gone by while the connection waited to be taken.
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
        """Say why a client is refused, where TLS has to do with it."""
        reason = str(error) if isinstance(error, TlsError) else self._reason(conn, error)
        if reason is not None:
            self._log.say(f"refused a connection from {host}: {reason}", about=reason)

    def _reason(self, conn: Channel, error: BaseException) -> str | None:
        if isinstance(error, MessageTooLarge):
            # The first bytes of a TLS client, read as a length.
            strict = error.size >> 16 == 0x1603 and tls.LENIENT.encode() not in conn.buffered()
            return "it wants TLS, which this master does not speak" if strict else None
        if isinstance(error, OSError) and tls.is_tls(error):
            return tls.explain_client(error, self._tls)
        return None
