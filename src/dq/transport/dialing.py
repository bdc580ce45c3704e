"""Connects to a master: with TLS if both ends can, and with errors for users."""

from __future__ import annotations

import socket
import time
from multiprocessing import AuthenticationError

from dq._support import platform
from dq.errors import AuthenticationFailed, ConnectError, TlsError, UnknownHost
from dq.security.tls import PLAIN, SpeaksPlain, Tls, explain, is_tls, was_cut
from dq.transport import limits
from dq.transport.addresses import Address, reachable, show
from dq.transport.channel import Channel
from dq.transport.handshake import answer_challenge, deliver_challenge
from dq.transport.limits import TLS_WAIT_S

# `Listener` and `dial` are registered with `multiprocessing.managers` under this name, which is the
# only way to use custom ones. A plain `BaseManager` at the other end works as usual.
SERIALIZER = "dq"
CLOSED = "the connection was closed during the handshake"
TLS_ATTEMPTS = 3  # to begin with TLS, if the master may have stopped waiting for it


def open_socket(address: Address, timeout: float | None = None) -> socket.socket:
    """Connect a socket to an address, in `timeout` seconds for each address of the host."""
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
    timeout: float | None = limits.HANDSHAKE_TIMEOUT_S,
    tls: Tls = PLAIN,
) -> Channel:
    """Connect and authenticate like `multiprocessing.connection.Client`, with its errors."""
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
    """Connect with TLS. Returns None if the master has no TLS and none is required.

    A master that accepts both answers in plain after `TLS_WAIT_S`, and on a busy machine the TLS
    hello may take longer. So if the handshake was slow, the client tries again.
    """
    context = tls.client_context(authkey)  # first, since the master's time-out starts on connecting
    for _ in range(TLS_ATTEMPTS):
        channel = Channel(open_socket(address, timeout))
        started = time.monotonic()
        try:
            channel.set_deadline(timeout)
            tls.check_peer(channel.begin_tls(context, _name_of(address[0])))
            return channel
        except SpeaksPlain:
            channel.close()
            if time.monotonic() - started < 0.8 * TLS_WAIT_S:
                break
        except BaseException:
            channel.close()
            raise
    if tls.required:
        raise SpeaksPlain
    return None


def _name_of(host: str) -> str:
    """The name of a host in its certificate, which has no scope of an IPv6 address."""
    return (host or "127.0.0.1").partition("%")[0]


def connect(
    address: Address, authkey: bytes, timeout: float = limits.HANDSHAKE_TIMEOUT_S, tls: Tls = PLAIN
) -> Channel:
    """Connect and authenticate, with errors for users.

    Raises:
        AuthenticationFailed: the keys differ.
        TlsError: the connection cannot be encrypted as required.
        ConnectError: anything else failed; the message says what and where.
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
        unknown = error.errno == socket.EAI_NONAME  # otherwise the name server cannot be reached
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
    except (AssertionError, ValueError):  # the standard library's errors for an invalid challenge
        raise ConnectError(f"what listens at {where} is not a dq master") from None
