"""Addresses of Unix sockets and hosts, in the forms for sockets and for users."""

from __future__ import annotations

import socket

from dq._support import platform

Address = str | tuple[str, int]  # the path of a Unix socket, or host and port

LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # of a server on all addresses


def reachable(host: str, port: int) -> tuple[str, int]:
    """The address at which this machine reaches a server that listens there.

    >>> reachable("", 5000), reachable("10.0.0.2", 5000)
    (('127.0.0.1', 5000), ('10.0.0.2', 5000))
    """
    return LOOPBACK.get(host, host), port


def outside(host: str, port: int) -> tuple[str, int]:
    """The address at which other machines reach such a server, as far as is known here.

    >>> outside("10.0.0.2", 5000)
    ('10.0.0.2', 5000)
    """
    if host not in LOOPBACK:
        return host, port
    own = platform.outward_address(ipv6=False) if host != "::" else None
    return own or platform.outward_address(ipv6=True) or socket.gethostname(), port


def show(address: Address) -> str:
    """An address as people write it.

    >>> show(("::1", 5000)), show(("", 5000)), show("/tmp/socket")
    ('[::1]:5000', '0.0.0.0:5000', '/tmp/socket')
    """
    if isinstance(address, str):
        return address
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host or '0.0.0.0'}:{port}"
