"""Lines of which a stranger can cause any number."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

SAY_AGAIN_S = 10.0  # after which the same is said again


class RateLimitedLog:
    """Says something of connections; not each time, since anybody can be refused a thousand times
    a second.

    Attributes:
        write: what takes the lines.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self.write = write
        self._lock = threading.Lock()  # guards `_said`
        self._said: dict[str, float] = {}  # when each subject was last spoken of

    def say(self, line: str, about: str = "") -> None:
        """Write a line, unless one `about` the same was written a while ago."""
        about, now = about or line, time.monotonic()
        with self._lock:
            if now - self._said.get(about, -SAY_AGAIN_S) < SAY_AGAIN_S:
                return
            self._said[about] = now
        self.write(line)
