"""What ``dq bench`` measures: dq on this machine, or the connection to a master."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence

from dq._support.frozen import frozen
from dq.errors import PlainMaster
from dq.manager.client import Client, PlainClient
from dq.master.executor import Executor
from dq.master.master import Master
from dq.security.tls import PLAIN, Tls
from dq.transport import dialing, limits
from dq.transport.addresses import Address

ENOUGH = 0.4  # seconds to measure a rate
CALLS = 300  # single calls, or as many as can be made in ...
PATIENCE = 1.5  # ... so many seconds
PAYLOAD = 1024 * 1024  # bytes of an input or result
LARGEST = 16 * 1024 * 1024  # bytes of one message to or from a master
CONNECTS = 20  # a master accepts 64 unauthenticated connections


@frozen
class Figure:
    """A measured value.

    Args:
        what: a description.
        value: the figure.
        unit: "tasks/s", "bytes/s" or "s".
    """

    what: str
    value: float
    unit: str


# This machine


def here(workers: int) -> Iterator[Figure]:
    """Measure dq with `workers` task processes of its own.

    >>> next(here(1)).unit
    's'
    """
    started = time.perf_counter()
    with Master(workers=workers) as master:
        list(master.map(same, range(workers)))
        yield Figure("start, to the first result", time.perf_counter() - started, "s")
        yield Figure("no-op tasks", _rate(lambda n: _count(master, n)), "tasks/s")
        with Executor(master=master) as pool:
            times = _times(lambda: pool.submit(same, 1).result())
        yield from _of_times("one task, there and back", times)
        rate = PAYLOAD * _rate(lambda n: _through(master, "builtins:len", _payloads(n)))
        yield Figure("bytes to workers", rate, "bytes/s")
        rate = PAYLOAD * _rate(lambda n: _through(master, "builtins:bytes", [PAYLOAD] * n))
        yield Figure("bytes from workers", rate, "bytes/s")


def same(value: object) -> object:
    """The no-op that is measured."""
    return value


def _count(master: Master, count: int) -> None:
    for _ in master.map(same, range(count)):
        pass


def _through(master: Master, task: str, inputs: Sequence[object]) -> None:
    for _ in master.map(task, inputs):
        pass


def _payloads(count: int) -> list[bytes]:
    """Payloads that are separate objects, because pickle sends the same object only once."""
    rest = bytes(PAYLOAD - 8)
    return [n.to_bytes(8, "big") + rest for n in range(min(count, 256))] * (-(-count // 256))


def _rate(run: Callable[[int], None]) -> float:
    """The rate per second, with enough tasks for a reliable figure."""
    count = 16
    while True:
        took = _took(run, count)
        if took >= ENOUGH:
            return count / took
        count *= 4 if took < ENOUGH / 4 else 2


# The connection to a master


@frozen
class Use:
    """Whether others use a master at the moment.

    Args:
        slots: task slots of connected dq workers; None if the master does not say.
        busy: batches that these workers have.
        waiting: items on its task queue.
    """

    slots: int | None
    busy: int
    waiting: int

    def __str__(self) -> str:
        waiting = f"{self.waiting} item(s) wait"
        if self.slots is None:
            return waiting
        return f"{self.slots} task slot(s) connected, {self.busy} batch(es) out, {waiting}"


class Server:
    """A running master. Measuring it puts no task on its queues, and takes none.

    Args:
        address: the master's.
        authkey: the shared key.
        tls: how connections are encrypted.

    Raises:
        ConnectError: there is no master, or it has another key.
    """

    def __init__(self, address: Address, authkey: bytes, tls: Tls = PLAIN) -> None:
        self._address = address
        self._plain = PlainClient(address, authkey, tls)
        self._client: Client | None = None
        try:
            # The role is neither a slot, which gets tasks, nor a worker, which is announced.
            self._client = Client(
                address,
                authkey,
                role="bench",
                group=os.urandom(8).hex(),
                name="dq bench",
                tls=tls,
            )
        except PlainMaster:
            pass  # a plain master has only the two queues

    def close(self) -> None:
        self._plain.close()
        if self._client is not None:
            self._client.close()

    def use(self) -> Use:
        """Who else uses the master."""
        client, waiting = self._client, self._plain.qsize()
        return Use(None, 0, waiting) if client is None else Use(client.slots, client.busy, waiting)

    def measure(self) -> Iterator[Figure]:
        """Measure the network alone, and then calls over it."""
        yield from _of_times("network alone, a TCP connect", self._connects())
        yield from _of_times("plain client, a call (qsize)", _times(self._plain.qsize))
        client = self._client
        if client is None:
            return
        yield from _of_times("worker, an exchange", _times(lambda: client.exchange(None, 0, 0.0)))
        most = min(LARGEST, client.max_message // 2)
        yield Figure("bytes to the master", _bandwidth(client.send, most), "bytes/s")
        yield Figure("bytes from the master", _bandwidth(client.fetch, most), "bytes/s")

    def _connects(self) -> list[float]:
        def connect() -> None:
            dialing.open_socket(self._address, limits.HANDSHAKE_TIMEOUT_S).close()

        return _times(connect, CONNECTS)


def _bandwidth(send: Callable[[int], None], most: int) -> float:
    """Bytes per second, with messages large enough for a reliable figure."""
    size = 64 * 1024
    while size * 4 <= most and _took(send, size) < ENOUGH / 4:
        size *= 4
    started, sent = time.perf_counter(), 0
    while (took := time.perf_counter() - started) < ENOUGH:
        send(size)
        sent += size
    return sent / took


def _took(call: Callable[[int], None], argument: int) -> float:
    started = time.perf_counter()
    call(argument)
    return time.perf_counter() - started


# Figures


def _times(call: Callable[[], object], count: int = CALLS) -> list[float]:
    """The seconds that each of several calls takes."""
    call()
    times: list[float] = []
    until = time.perf_counter() + PATIENCE
    while len(times) < count and (not times or time.perf_counter() < until):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return times


def _of_times(what: str, times: list[float]) -> Iterator[Figure]:
    ordered = sorted(times)
    for percent in (50, 99):
        yield Figure(f"{what}, p{percent}", ordered[(len(ordered) - 1) * percent // 100], "s")
