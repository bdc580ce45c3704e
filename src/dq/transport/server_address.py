"""Parses the address of a master as users write it."""

from __future__ import annotations

from dq.errors import UsageError

DEFAULT_PORT = 5000


def server_address(server: str, port: int | None = None) -> tuple[str, int]:
    """Read ``HOST``, ``HOST:PORT``, ``[IPv6]:PORT``, ``[IPv6]`` or ``IPv6``.

    Raises:
        UsageError: it is none of them.

    >>> server_address("10.0.0.2"), server_address("here:81"), server_address("[::1]:81")
    (('10.0.0.2', 5000), ('here', 81), ('::1', 81))
    >>> server_address("::1"), server_address("[::1]")
    (('::1', 5000), ('::1', 5000))
    """
    host, colon, number = server.rpartition(":")
    if not colon or server.endswith("]") or (":" in host and not host.startswith("[")):
        host, number = server, ""
    elif not number.isdecimal():
        raise UsageError(f"{server!r} is not HOST or HOST:PORT")
    host = host.removeprefix("[").removesuffix("]")
    chosen = port if port is not None else int(number or DEFAULT_PORT)
    if not host or not 0 < chosen < 65536:
        raise UsageError(f"{server!r} is not HOST or HOST:PORT, with a port from 1 to 65535")
    return host, chosen
