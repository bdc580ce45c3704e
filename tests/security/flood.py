"""A flood of strangers: connections without the key, as many as are asked for, of one kind.

    cd tests && python -m security.flood PORT KIND COUNT [RECORDED]

Opens COUNT connections, and a new one for each that the master ends. Says "on" once so many have
been opened. Stops when its standard input ends, and then prints, as JSON, how many it opened in
all and what they were sent: each different answer once, without the challenges' random bytes. KIND
is one of KINDS, "mixed" for all of them, or "bytewise". RECORDED is what a client with the key once
sent, in hexadecimal digits.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing.connection as mpc
import os
import random
import re
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

from security import pickles

CHALLENGE = re.compile(rb"#CHALLENGE#(\{sha256\}.{40}|.{20})", re.DOTALL)
BOMBED = "bombed"  # name of that folder
REST = 0.002  # seconds between two bytes of those who send byte by byte
LATE = 0.2  # seconds after which one that has not got through is given up: TCP would wait for one


def framed(message: bytes) -> bytes:
    return struct.pack("!i", len(message)) + message


def garbage(chance: random.Random, recorded: bytes) -> bytes:
    return chance.randbytes(chance.choice([1, 3, 4, 5, 24, 300, 5000]))


def http(chance: random.Random, recorded: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


def tls(chance: random.Random, recorded: bytes) -> bytes:
    return b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(500)


def negative(chance: random.Random, recorded: bytes) -> bytes:
    return struct.pack("!i", -5) + b"x" * 100


def huge(chance: random.Random, recorded: bytes) -> bytes:
    return struct.pack("!iQ", -1, 2**60) + b"x" * 100


def large(chance: random.Random, recorded: bytes) -> bytes:
    return struct.pack("!i", 2**31 - 1) + b"x" * 100


def half(chance: random.Random, recorded: bytes) -> bytes:
    return framed(chance.randbytes(16))[:11]


def wrong(chance: random.Random, recorded: bytes) -> bytes:
    return framed(chance.randbytes(16)) + framed(b"#CHALLENGE#" + chance.randbytes(20))


def modern(chance: random.Random, recorded: bytes) -> bytes:
    return framed(b"{sha256}" + chance.randbytes(32))


def replayed(chance: random.Random, recorded: bytes) -> bytes:
    return recorded


def bomb(chance: random.Random, recorded: bytes) -> bytes:
    """Pickles in place of the digest, and after it, that make a folder where the master runs."""
    call = pickles.calls(Path(BOMBED))["os.mkdir"]
    message = framed(pickles.whole(call))
    return message + framed(b"#WELCOME#") + message + framed(pickles.request(ident=call))


def silent(chance: random.Random, recorded: bytes) -> bytes:
    return b""


KINDS: dict[str, Callable[[random.Random, bytes], bytes]] = {
    kind.__name__: kind
    for kind in (
        silent, garbage, http, tls, negative, huge, large, half, wrong, modern, replayed, bomb,
    )
}  # fmt: skip


def mixed(chance: random.Random, recorded: bytes) -> bytes:
    return chance.choice(list(KINDS.values()))(chance, recorded)


class Peer:
    """One connection."""

    def __init__(self, port: int, says: bytes, slowly: bool) -> None:
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.connect_ex(("127.0.0.1", port))
        self.says = says
        self.step = 1 if slowly else len(says)
        self.next = 0.0
        self.heard = b""
        self.opened = time.monotonic()
        self.connected = False

    def send(self) -> None:
        self.connected = True
        if self.says and time.monotonic() >= self.next:
            sent = self.sock.send(self.says[: self.step])
            self.says = self.says[sent:]
            self.next = time.monotonic() + REST

    def receive(self) -> bool:
        """Take what has come; whether the master has ended it."""
        data = self.sock.recv(4096)
        self.heard += data
        return not data


class Flood:
    """Keeps `count` connections open."""

    def __init__(self, port: int, kind: str, count: int, recorded: bytes) -> None:
        self.port, self.count, self.recorded = port, count, recorded
        self.slowly = kind == "bytewise"
        self.says = {"mixed": mixed, "bytewise": wrong, **KINDS}[kind]
        self.chance = random.Random(count)
        self.peers: set[Peer] = set()
        self.selector = selectors.DefaultSelector()
        self.opened = 0
        self.answers: set[bytes] = set()

    def fill(self) -> None:
        for _ in range(min(self.count - len(self.peers), 50)):
            peer = Peer(self.port, self.says(self.chance, self.recorded), self.slowly)
            self.peers.add(peer)
            self.selector.register(peer.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, peer)
            self.opened += 1

    def turn(self) -> None:
        for key, mask in self.selector.select(0.05):
            peer = key.data
            try:
                ended = bool(mask & selectors.EVENT_READ) and peer.receive()
                if mask & selectors.EVENT_WRITE:
                    peer.send()
            except BlockingIOError:
                continue
            except OSError:
                ended = True
            if ended:
                self.drop(peer)
            elif not peer.says:
                self.selector.modify(peer.sock, selectors.EVENT_READ, peer)
        late = time.monotonic() - LATE
        for peer in [peer for peer in self.peers if not peer.connected and peer.opened < late]:
            self.drop(peer)
        if self.slowly:
            time.sleep(REST / 2)

    def drop(self, peer: Peer) -> None:
        self.selector.unregister(peer.sock)
        peer.sock.close()
        self.peers.discard(peer)
        self.answers.add(CHALLENGE.sub(b"#CHALLENGE#", peer.heard))


def main() -> None:
    port, kind, count, *recorded = sys.argv[1:]
    flood = Flood(int(port), kind, int(count), bytes.fromhex("".join(recorded)))
    while flood.opened < flood.count:
        flood.fill()
        flood.turn()
    print("on", flush=True)
    while not _has_ended(sys.stdin.fileno()):
        flood.fill()
        flood.turn()
    for peer in list(flood.peers):
        with contextlib.suppress(OSError):
            peer.receive()
        flood.drop(peer)
    print(json.dumps([flood.opened, sorted(map(bytes.hex, flood.answers))]))


def _has_ended(descriptor: int) -> bool:
    return bool(mpc.wait([descriptor], 0)) and not os.read(descriptor, 1)


if __name__ == "__main__":
    main()
