"""What TLS costs, on loopback: to connect, in tasks, and in bytes.

    python tests/security/cost.py

Prints a table of medians; ways that this Python cannot do are left out.
"""

from __future__ import annotations

import platform
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable
from operator import neg

from dq import Master
from dq.manager.client import ServerConnection
from dq.security import certs
from dq.security.tls import Tls, can_psk, settings

KEY = "0123456789abcdef0123456789abcdef"
ROUNDS = 5
CONNECTIONS = 100
TASKS = 300_000
BLOB = b"x" * 1_000_000
BLOBS = 50


def ways(folder: str) -> dict[str, Tls]:
    found = {"plain": settings("off")}
    files = [f"{folder}/{name}" for name in ("master.pem", "master.key", "ca.pem")]
    found["certificates"] = settings("certs", *files)
    if can_psk():
        found["key"] = settings("psk")
    return found


def options(tls: Tls) -> dict[str, str]:
    if tls.mode != "certs":
        return {"tls": tls.mode}
    return {"tls_cert": tls.cert, "tls_key": tls.key, "tls_ca": tls.ca}


def connecting(master: Master, tls: Tls) -> float:
    """Milliseconds to connect and authenticate, the median of many."""
    address = ("127.0.0.1", master.address[1])
    took = []
    for _ in range(CONNECTIONS):
        started = time.perf_counter()
        ServerConnection(address, KEY.encode(), tls=tls).close()
        took.append((time.perf_counter() - started) * 1000)
    return statistics.median(took)


def tasks(master: Master, tls: Tls) -> float:
    """Thousands of tasks a second that do nothing."""
    started = time.perf_counter()
    assert sum(1 for _ in master.map(neg, range(TASKS))) == TASKS
    return TASKS / (time.perf_counter() - started) / 1000


def volume(master: Master, tls: Tls) -> float:
    """Megabytes a second, there and back."""
    started = time.perf_counter()
    assert sum(map(len, master.map(bytes, [BLOB] * BLOBS))) == BLOBS * len(BLOB)
    return 2 * BLOBS * len(BLOB) / (time.perf_counter() - started) / 1e6


MEASURES: dict[str, Callable[[Master, Tls], float]] = {
    "connect and authenticate, ms": connecting,
    "no-op tasks, thousands/s": tasks,
    "1 MB in and out, MB/s": volume,
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        certs.make(folder)
        found = ways(folder)
        seen: dict[tuple[str, str], list[float]] = {}
        for _ in range(ROUNDS):  # in turns, so that whatever else the machine does hits all
            for way, tls in found.items():
                with Master(port=0, authkey=KEY, workers=2, **options(tls)) as master:  # type: ignore[arg-type]
                    list(master.map(neg, range(1000)))
                    for name, measure in MEASURES.items():
                        seen.setdefault((name, way), []).append(measure(master, tls))
    print(f"CPython {platform.python_version()}, {ssl.OPENSSL_VERSION}, medians of {ROUNDS}")
    print(f"{'':30}" + "".join(f"{way:>15}" for way in found))
    for name in MEASURES:
        values = (statistics.median(seen[name, way]) for way in found)
        print(f"{name:30}" + "".join(f"{value:15.2f}" for value in values))


if __name__ == "__main__":
    main()
