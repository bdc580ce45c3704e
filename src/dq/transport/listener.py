"""A listening socket for IPv4 and IPv6, whose `accept` can be woken."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing.connection as mpc
import os
import socket

from dq._support import platform
from dq._support.naming import setting
from dq.transport.addresses import Address, show
from dq.transport.channel import Channel

# Enough for a thousand connections at once. The system silently drops what does not fit, and a
# plain client then waits for ever. It is not larger, because in a flood each connection waits until
# those before it are accepted: a quarter of a second with this number.
BACKLOG = 1024


class Listener:
    """A listening socket, with the interface of `multiprocessing.connection.Listener`.

    Unlike the standard library's, it supports IPv6 (CPython takes every tuple for AF_INET), queues
    more than a handful of connections, and can be woken.

    Args:
        address: host and port, or the path of a Unix socket. The host '' stands for all IPv4 and
            IPv6 addresses of this machine.
        backlog: ignored; the standard library's 16 drops connections under load.

    Attributes:
        address: where it listens. If it listens on both families, the host is 0.0.0.0, which a
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
        """Where it listens, for users."""
        shown = show(self.address)
        return f"{shown} and {show(('::', int(self.address[1])))}" if self._both else shown

    def accept(self) -> Channel:
        """Wait for a connection.

        Raises:
            OSError: the listener is closed, or, for example, there are no more descriptors.
        """
        if self._woken in mpc.wait([self._sock, self._woken]):
            raise OSError("the listener is closed")
        sock, _ = self._sock.accept()
        return Channel(sock)

    def wake(self) -> None:
        """Make `accept` raise from now on, even if it is waiting."""
        with contextlib.suppress(OSError):
            self._wake.send(b"x")

    def close_after_fork(self) -> None:
        """Close the listener in a forked process; the parent goes on using it."""
        for sock in (self._sock, self._wake, self._woken):
            sock.close()

    def close(self) -> None:
        self.close_after_fork()
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
    # IPv4 addresses first, since a plain BaseManager can connect to no others.
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
    """A socket for both families, or for the one that this machine has."""
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


def explain_bind(address: Address, error: OSError | UnicodeError) -> str:
    """Explain why listening on an address failed, and what to do."""
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
