"""Connecting: with TLS where both ends can, authenticated, and with errors for people."""

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

# `Listener` and `dial` are registered with `multiprocessing.managers` under this name, the one
# place where it lets a manager bring its own; so a plain `BaseManager` on the other end notices
# nothing.
SERIALIZER = "dq"
CLOSED = "the connection was closed during the handshake"
TLS_ATTEMPTS = 3  # times that a client begins with TLS, where the master may have lost patience


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
    timeout: float | None = limits.HANDSHAKE_TIMEOUT_S,
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

    A master that speaks both answers in plain when it has waited for `TLS_WAIT_S`, and a busy
    machine may be slower than that to say hello: one that was not quick to answer is asked again.
    """
    context = tls.client_context(authkey)  # ahead of connecting, which starts the master's watch
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
    """A host as its certificate names it: without the scope of an IPv6 address."""
    return (host or "127.0.0.1").partition("%")[0]


def connect(
    address: Address, authkey: bytes, timeout: float = limits.HANDSHAKE_TIMEOUT_S, tls: Tls = PLAIN
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
