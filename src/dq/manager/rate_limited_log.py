"""A log for lines that unauthenticated peers can cause in any number."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

SAY_AGAIN_S = 10.0  # between two lines about the same subject


class RateLimitedLog:
    """Logs events of connections, with a limit on their rate, since anybody can cause a thousand
    refusals a second.

    Attributes:
        write: called with each line.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self.write = write
        self._lock = threading.Lock()  # guards `_said`
        self._said: dict[str, float] = {}  # when there was last a line about each subject

    def say(self, line: str, about: str = "") -> None:
        """Write a line, unless one `about` the same subject was written recently."""
        about, now = about or line, time.monotonic()
        with self._lock:
            if now - self._said.get(about, -SAY_AGAIN_S) < SAY_AGAIN_S:
                return
            self._said[about] = now
        self.write(line)
