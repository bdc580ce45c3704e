"""The connections that a server serves."""

from __future__ import annotations

import sys
import threading
import time

from dq.transport.channel import Channel

ANSWERS_TIMEOUT_S = 1.0  # in which a closing server sends answers to open requests
# CPython's switch interval is this times the square of the number of connections, from a thousand
# on. If ten thousand clients leave at once, each of their threads would otherwise ask for the GIL
# 200 times a second, and they would take minutes to end. With this, they take one or two seconds.
TURN_S = 5e-9


class Clients:
    """Connections that are being served, each by a thread of its own.

    The more there are, the longer is CPython's switch interval.
    """

    def __init__(self) -> None:
        self._channels: set[Channel] = set()
        self._lock = threading.Lock()  # guards it
        self._turn = sys.getswitchinterval()

    def add(self, channel: Channel) -> None:
        """Add a connection."""
        with self._lock:
            self._channels.add(channel)
            self._share()

    def discard(self, channel: Channel) -> None:
        """Remove a connection."""
        with self._lock:
            self._channels.discard(channel)
            self._share()

    def all(self) -> list[Channel]:
        """The current connections."""
        with self._lock:
            return list(self._channels)

    def _share(self) -> None:
        wanted = max(self._turn, TURN_S * len(self._channels) ** 2)
        if wanted > self._turn or sys.getswitchinterval() > self._turn:
            sys.setswitchinterval(wanted)

    # After a fork

    def close(self) -> None:
        """Close all connections in a forked process. The parent, which serves them, may have held
        the lock."""
        for channel in self._channels:
            channel.close()

    # At the end

    def shutdown(self) -> None:
        """End all connections once each open request is answered, or after a second."""
        channels = self.all()
        until = time.monotonic() + ANSWERS_TIMEOUT_S
        while any(channel.asked for channel in channels) and time.monotonic() < until:
            time.sleep(0.002)  # so that the last `put` is answered
        for channel in channels:
            channel.shutdown()
