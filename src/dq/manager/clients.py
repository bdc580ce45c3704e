"""The connections that a server serves."""

from __future__ import annotations

import sys
import threading
import time

from dq.transport.channel import Channel

ANSWERS_TIMEOUT_S = 1.0  # for the answers to what is under way when a server closes
# That a thread keeps the interpreter before others may ask for it, by the square of the
# connections, from a thousand on. Where ten thousand leave at once, their threads would otherwise
# take minutes to ask, each 200 times a second: so they do in one or two seconds.
TURN_S = 5e-9


class Clients:
    """Connections that are served, each by a thread of its own.

    Their threads keep the interpreter for longer, the more of them there are.
    """

    def __init__(self) -> None:
        self._channels: set[Channel] = set()
        self._lock = threading.Lock()  # guards it
        self._turn = sys.getswitchinterval()

    def add(self, channel: Channel) -> None:
        """One more."""
        with self._lock:
            self._channels.add(channel)
            self._share()

    def discard(self, channel: Channel) -> None:
        """One less."""
        with self._lock:
            self._channels.discard(channel)
            self._share()

    def all(self) -> list[Channel]:
        """Those there are now."""
        with self._lock:
            return list(self._channels)

    def _share(self) -> None:
        wanted = max(self._turn, TURN_S * len(self._channels) ** 2)
        if wanted > self._turn or sys.getswitchinterval() > self._turn:
            sys.setswitchinterval(wanted)

    # After a fork

    def close(self) -> None:
        """Close them, in a process that another serves them from; it may have held the lock."""
        for channel in self._channels:
            channel.close()

    # At the end

    def shutdown(self) -> None:
        """End them, once who has asked for something has its answer, or a second is over."""
        channels = self.all()
        until = time.monotonic() + ANSWERS_TIMEOUT_S
        while any(channel.asked for channel in channels) and time.monotonic() < until:
            time.sleep(0.002)  # who put the last result is told so
        for channel in channels:
            channel.shutdown()
