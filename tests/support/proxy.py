"""A TCP proxy that does to a connection what networks do: delay, narrow, cut, swallow, freeze.

                 FaultProxy, one thread around one selector
    client  --> | read -> [the line: (arrived, bytes)] -> send |  -->  target     "up"
    client  <-- | send <- [the line: (arrived, bytes)] <- read |  <--  target     "down"

Only that thread touches sockets and lines. The methods of FaultProxy hand it a change and wait
until it has been made, so whatever a test does after `proxy.reset()` happens after the reset.
"""

from __future__ import annotations

import math
import selectors
import socket
import struct
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, TypeVar

from support.closing import Closing

Direction = Literal["up", "down"]
Address = tuple[str, int]
T = TypeVar("T")

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
CHUNK = 1 << 18
#: A limited direction takes this many seconds' worth at a time, and may catch up on one of them.
SLICE = 0.01


class _Cut(Exception):
    """Raised when `cut_after` closes the connection that is being pumped."""


@dataclass
class _Way:
    """What holds for all connections in one direction."""

    delay: float = 0.0
    rate: float | None = None
    free_at: float = 0.0  # when a limited direction may read again
    cut: int | None = None  # bytes to hand on before the cut
    dropping: bool = False
    passed: int = 0
    dropped: int = 0

    def slice(self) -> int:
        return CHUNK if self.rate is None else min(CHUNK, max(1, int(self.rate * SLICE)))

    def took(self, size: int, now: float) -> None:
        if self.rate is not None:
            self.free_at = max(now - SLICE, self.free_at) + size / self.rate

    def gave(self, size: int) -> None:
        self.passed += size
        if self.cut is not None:
            self.cut -= size
            self.cut_if_due()

    def cut_if_due(self) -> None:
        if self.cut == 0:
            self.cut = None
            raise _Cut


class _Stream:
    """One direction of one connection.

    Limits act where it reads, cuts where it sends, and delays in between.
    """

    def __init__(self, way: _Way, source: socket.socket, sink: socket.socket) -> None:
        self.way, self.source, self.sink = way, source, sink
        self.line: deque[tuple[float, memoryview]] = deque()  # an empty view is the end
        self.ended = self.passed_end = False

    def send_at(self) -> float:
        """When the head of the line may be sent; infinity when there is none."""
        if not self.line:
            return math.inf
        arrived, data = self.line[0]
        return arrived + self.way.delay if data or not self.way.dropping else math.inf

    def read_at(self, now: float) -> float:
        """When more may be read; infinity when not before something else happens."""
        # What is due and unsent means that the sink is slow: the source has to feel it. What is
        # not yet due is only on its way, and must not hold up what follows.
        if self.ended or (self.send_at() <= now and not self.way.dropping):
            return math.inf
        return self.way.free_at

    def read(self, now: float) -> bool:
        """Take in what has come, as far as that is allowed; false if nothing was."""
        if now < self.read_at(now):
            return False
        try:
            data = self.source.recv(self.way.slice())
        except BlockingIOError:
            return False
        self.ended = not data
        self.way.took(len(data), now)
        if data and self.way.dropping:
            self.way.dropped += len(data)
        else:
            self.line.append((now, memoryview(data)))
        return True

    def send(self, now: float) -> None:
        """Send what is due, as far as the sink takes it."""
        while self.send_at() <= now:
            arrived, data = self.line[0]
            if not data:
                self.line.popleft()
                self.passed_end = True
                self.sink.shutdown(socket.SHUT_WR)
                return
            self.way.cut_if_due()
            try:
                size = self.sink.send(data[: self.way.cut])
            except BlockingIOError:  # also while still connecting
                return
            if size < len(data):
                self.line[0] = (arrived, data[size:])
            else:
                self.line.popleft()
            self.way.gave(size)


class _Link:
    """A client's connection and the one made to the target for it."""

    def __init__(self, client: socket.socket, server: socket.socket, up: _Way, down: _Way) -> None:
        self.client, self.server = client, server
        self.up = _Stream(up, client, server)
        self.down = _Stream(down, server, client)
        self.silent: list[socket.socket] = []

    def ends(self) -> tuple[tuple[socket.socket, _Stream, _Stream], ...]:
        """Each socket, the stream that reads from it, the stream that sends to it."""
        return (self.client, self.up, self.down), (self.server, self.down, self.up)

    def sockets(self) -> list[socket.socket]:
        return [self.client, self.server, *self.silent]

    def finished(self) -> bool:
        return self.up.passed_end and self.down.passed_end


class FaultProxy(Closing):
    """Stands between clients and `target`, transparent until told otherwise.

    Every fault can be set and taken back while connections are open. A `direction` is `"up"`,
    client to target, or `"down"`; where it is None, both are meant. Limits, cuts and counters are
    of a direction, over all of its connections.

    `connections` counts the accepted ones, `passed[direction]` the bytes handed on,
    `dropped[direction]` those swallowed. `target` may be assigned: later connections go there.
    """

    def __init__(self, target: Address) -> None:
        self.target = target
        self.connections = 0
        self._ways: dict[Direction, _Way] = {"up": _Way(), "down": _Way()}
        self._links: OrderedDict[_Link, None] = OrderedDict()
        self._frozen = self._duplicating = self._stopping = False
        self._changes: deque[Callable[[], None]] = deque()
        self._selector = selectors.DefaultSelector()
        # Bound and never listening: keeps the port ours while `refuse` has no listener.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self.address: Address = self._reserved.getsockname()
        self.port = self.address[1]
        self._listener: socket.socket | None = self._listen()
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="fault proxy", daemon=True)
        self._thread.start()

    # -- faults

    def delay(self, seconds: float, direction: Direction | None = None) -> None:
        """Hand each byte on `seconds` after it came, at whatever rate they come."""
        self._set(direction, delay=seconds)

    def limit(self, bytes_per_second: float | None, direction: Direction | None = None) -> None:
        """Take in no more than that, in slices of 10 ms; None lifts it."""
        if bytes_per_second is not None and bytes_per_second <= 0:
            raise ValueError("a limit is positive; freeze() stops everything")
        self._set(direction, rate=bytes_per_second, free_at=0.0)

    def cut_after(self, nbytes: int | None, direction: Direction) -> None:
        """Close a connection, both sides, once exactly `nbytes` more have gone in `direction`.

        It is the connection that carries the last of them. With 0 it is the one that has the next
        byte to carry, and that byte is lost. One cut, then the proxy is transparent again.
        """
        self._set(direction, cut=nbytes)

    def drop(self, direction: Direction | None = None, on: bool = True) -> None:
        """Swallow what comes, the end of a connection as well; the sender sees nothing amiss."""
        self._set(direction, dropping=on)

    def freeze(self) -> None:
        """Stand still: nothing is read, handed on or accepted, as if the proxy were stopped."""

        def stop() -> None:
            self._frozen = True
            for key in list(self._selector.get_map().values()):
                if key.fileobj is not self._woken:
                    self._selector.unregister(key.fileobj)

        self._change(stop)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        self._change(lambda: setattr(self, "_frozen", False))

    def reset(self) -> None:
        """End all connections on both sides with a reset (RST), whatever is still on its way."""

        def reset() -> None:
            for link in list(self._links):
                self._drop_link(link, reset=True)

        self._change(reset)

    def refuse(self) -> None:
        """Refuse new connections: the port is ours, but nobody listens."""
        self._change(self._stop_listening)

    def accept(self) -> None:
        """Take new connections again after `refuse`."""

        def listen() -> None:
            self._listener = self._listener or self._listen()

        self._change(listen)

    def duplicate_connects(self, on: bool = True) -> None:
        """Open a second connection to the target ahead of each one, that never says anything.

        It is closed with the connection that it doubles.
        """
        self._change(lambda: setattr(self, "_duplicating", on))

    def heal(self) -> None:
        """Take back every fault; what is on its way goes on."""
        self._set(None, delay=0.0, rate=None, free_at=0.0, cut=None, dropping=False)
        self.duplicate_connects(False)
        self.accept()
        self.thaw()

    # -- what can be seen

    @property
    def passed(self) -> dict[Direction, int]:
        return self._seen(lambda: {name: way.passed for name, way in self._ways.items()})

    @property
    def dropped(self) -> dict[Direction, int]:
        return self._seen(lambda: {name: way.dropped for name, way in self._ways.items()})

    @property
    def open_connections(self) -> int:
        return self._seen(lambda: len(self._links))

    def close(self) -> None:
        """Close everything and end the thread."""
        if self._thread.is_alive():
            self._change(lambda: setattr(self, "_stopping", True))
            self._thread.join(10)
        # Not in the thread: it may take up the change above before `_change` has woken it.
        for sock in (self._woken, self._waker):
            sock.close()

    # -- the caller's side of the thread

    def _set(self, direction: Direction | None, **values: object) -> None:
        def apply() -> None:
            for name, way in self._ways.items():
                if direction in (None, name):
                    for key, value in values.items():
                        setattr(way, key, value)

        if direction not in (None, "up", "down"):
            raise ValueError(f"a direction is 'up' or 'down', not {direction!r}")
        self._change(apply)

    def _seen(self, look: Callable[[], T]) -> T:
        # Looked at in the thread, what somebody has received is sure to have been counted.
        return self._change(look) if self._thread.is_alive() else look()

    def _change(self, change: Callable[[], T]) -> T:
        made: Future[T] = Future()

        def make() -> None:
            try:
                made.set_result(change())
            except BaseException as error:
                made.set_exception(error)

        self._changes.append(make)
        self._waker.send(b"!")
        return made.result(timeout=10)

    # -- the thread

    def _run(self) -> None:
        self._selector.register(self._woken, READ)
        try:
            while not self._stopping:
                self._step()
        finally:
            self._close_all()

    def _step(self) -> None:
        events = self._selector.select(self._watch(time.monotonic()))
        now = time.monotonic()
        for key, mask in events:
            if key.data is not None:
                link, reads, sends = key.data
                self._pump(link, reads, sends, mask, now)
            elif key.fileobj is self._listener:
                self._accept_all()
            else:
                self._woken.recv(4096)
        while self._changes:
            self._changes.popleft()()

    def _watch(self, now: float) -> float | None:
        """Tell the selector what to look out for; return how long it may sleep."""
        if self._frozen:
            return None
        wake_at = math.inf
        if self._listener is not None:
            self._interest(self._listener, READ, None)
        for link in self._links:
            for sock, reads, sends in link.ends():
                mask = 0
                for flag, at in ((READ, reads.read_at(now)), (WRITE, sends.send_at())):
                    if at <= now:
                        mask |= flag
                    else:
                        wake_at = min(wake_at, at)
                self._interest(sock, mask, (link, reads, sends))
        return None if wake_at == math.inf else wake_at - now

    def _interest(self, sock: socket.socket, mask: int, data: object) -> None:
        known = self._selector.get_map().get(sock)
        if known is None and mask:
            self._selector.register(sock, mask, data)
        elif known is not None and not mask:
            self._selector.unregister(sock)
        elif known is not None and known.events != mask:
            self._selector.modify(sock, mask, data)

    def _pump(self, link: _Link, reads: _Stream, sends: _Stream, mask: int, now: float) -> None:
        if link not in self._links:  # ended by an earlier event of this round
            return
        try:
            suspect = reads  # the stream out of the end that is being used
            if mask & WRITE:
                sends.send(now)
            if mask & READ and reads.read(now) and reads.way.rate is not None:
                self._links.move_to_end(link)  # those who share a narrow way take turns
            suspect = sends
            reads.send(now)
        except _Cut:
            self._drop_link(link)
        except OSError:
            self._lost(link, suspect)
        else:
            if link.finished():
                self._drop_link(link)

    def _lost(self, link: _Link, stream: _Stream) -> None:
        """The source of `stream` was reset: so is the other end, unless that news is swallowed."""
        if not stream.way.dropping:
            self._drop_link(link, reset=True)
        elif not stream.ended:
            stream.ended = True
            stream.line.append((0.0, memoryview(b"")))

    def _accept_all(self) -> None:
        assert self._listener is not None
        try:
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                silent = [self._connect()] if self._duplicating else []
                link = _Link(_tuned(client), self._connect(), self._ways["up"], self._ways["down"])
                link.silent = silent
                self._links[link] = None
        except (BlockingIOError, ConnectionAbortedError):
            return

    def _connect(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.target[0] else socket.AF_INET
        sock = _tuned(socket.socket(family))
        # While connecting it is neither readable nor writable; a refusal is an error of its recv.
        sock.connect_ex(self.target)
        return sock

    def _listen(self) -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(self.address)
        sock.listen(1024)
        sock.setblocking(False)
        return sock

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._interest(self._listener, 0, None)
            self._listener.close()
            self._listener = None

    def _drop_link(self, link: _Link, reset: bool = False) -> None:
        self._links.pop(link, None)
        for sock in link.sockets():
            self._interest(sock, 0, None)
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                _drain(sock)
            sock.close()

    def _close_all(self) -> None:
        self._stop_listening()
        for link in list(self._links):
            self._drop_link(link)
        self._selector.close()
        self._reserved.close()


def _tuned(sock: socket.socket) -> socket.socket:
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _drain(sock: socket.socket) -> None:
    """Read what has come: closing a socket with something unread resets it instead of ending it."""
    try:
        sock.shutdown(socket.SHUT_WR)
        for _ in range(64):  # a peer that keeps sending must not keep us
            if not sock.recv(CHUNK):
                break
    except OSError:  # nothing more for now, or already gone: either way it can be closed
        pass
