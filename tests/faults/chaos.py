"""Strangers and guests of a master: who comes, takes a task, and leaves as people do, or does not.

Those of the plain wire are made of the standard library alone, and speak for every client of a
`BaseManager`; those of the workers' endpoint are what dq's own workers are made of.
"""

from __future__ import annotations

import os
import queue
import random
import secrets
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client as Connection
from multiprocessing.managers import dispatch
from typing import Any, Protocol

from dq.manager.client import Client
from dq.manager.messages import ReportMessage
from faults.scene import KEY

HOST = "127.0.0.1"
AUTHKEY = KEY.encode()
#: What masters have been sent by mistake or by malice: no challenge is answered with any of it.
GARBAGE = [
    b"GET / HTTP/1.1\r\nHost: master\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40),
    struct.pack("!i", -5) + b"x",
    struct.pack("!iQ", -1, 1 << 60) + b"x",
    struct.pack("!i", 20) + b"#CHALLENGE#and so on",
    b"\n" * 300,
]


class Visit(Protocol):
    """Somebody who is connected."""

    def leave(self) -> None: ...


class Guest:
    """A client of the plain wire: one connection for its calls, and one to find each queue."""

    def __init__(self, port: int) -> None:
        self.tasks = _created(port, "get_task_queue")
        self.results = _created(port, "get_result_queue")
        self.connection = Connection((HOST, port), authkey=AUTHKEY)
        dispatch(self.connection, None, "accept_connection", ("guest",))

    def take(self, patience: float) -> Any:
        """One of the master's inputs; queue.Empty if there is none in `patience` seconds."""
        return dispatch(self.connection, self.tasks, "get", (True, patience))

    def put(self, result: Any) -> None:
        """Answer what was taken."""
        dispatch(self.connection, self.results, "put", (result,))

    def leave(self) -> None:
        self.connection.close()

    def reset(self) -> None:
        """End the connection with a reset (RST), as a killed virtual machine's host does."""
        reset(self.connection.fileno())
        self.connection.close()


def _created(port: int, typeid: str) -> str:
    with Connection((HOST, port), authkey=AUTHKEY) as connection:
        ident, _ = dispatch(connection, None, "create", (typeid,))
    return str(ident)


def reset(fileno: int) -> None:
    """Have a socket's end be a reset, whatever is on its way."""
    with socket.socket(fileno=os.dup(fileno)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Slot:
    """A task slot of dq's own, without a supervisor."""

    def __init__(self, port: int) -> None:
        group = secrets.token_hex(8)
        self.client = Client((HOST, port), AUTHKEY, role="slot", group=group, name="slot:1")
        self.grant: Any = None

    def take(self, patience: float) -> None:
        _, self.grant, _ = self.client.exchange(None, 1, patience)

    def hand_back(self) -> None:
        """Give back, unstarted, what was taken."""
        if self.grant is not None:
            grant = self.grant
            back = ReportMessage(self.client.run, grant.lease, grant.start, (), grant.count)
            self.client.exchange(back, 0, 0.0)

    def leave(self) -> None:
        self.client.close()

    def reset(self) -> None:
        reset(self.client.channel.fileno())
        self.client.close()


class Stranger:
    """A connection that has no key."""

    def __init__(self, port: int, says: bytes = b"") -> None:
        self.socket = socket.create_connection((HOST, port), timeout=10)
        with suppress(OSError):
            self.socket.sendall(says)

    def leave(self) -> None:
        self.socket.close()


def wrong_key(port: int) -> None:
    """Somebody with another key is told so."""
    try:
        Connection((HOST, port), authkey=b"not the key of this master").close()
    except (AuthenticationError, EOFError, OSError):
        return
    raise AssertionError("another key was taken")


class Deadly(Exception):
    """Raised by a guest's work where the guest dies of it."""


class Visitors:
    """Visits of a random kind. `stay` is given who does not leave at once.

    Args:
        random: which, and how they leave.
        work: what a guest does with an input; its result answers it.
        stay: who is given connections that go on.
        patience: seconds that somebody waits for a task.
    """

    def __init__(
        self,
        random: random.Random,
        work: Callable[[Any], Any],
        stay: Callable[[Visit], None],
        patience: float,
    ) -> None:
        self.random, self._work, self._stay, self._patience = random, work, stay, patience
        self.taken = self.vanished = 0
        kinds: dict[Callable[[int], None], int] = {
            self.works: 6,
            self.vanishes: 3,
            self.falls_silent: 1,
            self.slot_vanishes: 2,
            self.slot_hands_back: 1,
            self.silent: 2,
            self.hangs_up: 1,
            self.garbage: 2,
            wrong_key: 2,
        }
        self._kinds, self._weights = list(kinds), list(kinds.values())

    def come(self, port: int) -> None:
        """One visit; OSError and EOFError where the master has gone meanwhile."""
        [kind] = self.random.choices(self._kinds, self._weights)
        kind(port)

    # Guests

    def works(self, port: int) -> None:
        guest = Guest(port)
        for _ in range(self.random.randrange(1, 4)):
            if not self._has_taken(guest):
                break
            try:
                guest.put(self._work(self._last))
            except Deadly:
                self.vanished += 1
                guest.reset()
                return
        guest.leave()

    def vanishes(self, port: int) -> None:
        guest = Guest(port)
        self.vanished += self._has_taken(guest)
        self.random.choice([guest.leave, guest.reset])()

    def falls_silent(self, port: int) -> None:
        guest = Guest(port)
        self.vanished += self._has_taken(guest)
        self._stay(guest)

    def _has_taken(self, guest: Guest) -> bool:
        try:
            self._last = guest.take(self._patience)
        except queue.Empty:
            return False
        self.taken += 1
        return True

    # dq's own

    def slot_vanishes(self, port: int) -> None:
        slot = Slot(port)
        slot.take(self._patience)
        self.vanished += slot.grant is not None
        self.random.choice([slot.leave, slot.reset])()

    def slot_hands_back(self, port: int) -> None:
        slot = Slot(port)
        slot.take(self._patience)
        slot.hand_back()
        slot.leave()

    # Strangers

    def silent(self, port: int) -> None:
        self._stay(Stranger(port))

    def hangs_up(self, port: int) -> None:
        Stranger(port).leave()

    def garbage(self, port: int) -> None:
        stranger = Stranger(port, self.random.choice([*GARBAGE, self.random.randbytes(200)]))
        self.random.choice([lambda: self._stay(stranger), stranger.leave])()
