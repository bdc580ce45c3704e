"""When a master works: in the process that made it, until it is closed."""

from __future__ import annotations

import os
import threading

from dq.errors import UsageError


class Lifetime:
    """Whether a master is closed, and whether this is still the process that made it."""

    def __init__(self) -> None:
        self._closed = threading.Event()
        self._process = os.getpid()

    @property
    def closed(self) -> bool:
        """Whether it has stopped serving, or is about to."""
        return self._closed.is_set()

    def wait(self, timeout: float) -> bool:
        """Wait until it is closed; whether it is."""
        return self._closed.wait(timeout)

    def end(self) -> bool:
        """Close it; whether this call has done that. A fork of its process cannot."""
        if self._closed.is_set() or os.getpid() != self._process:
            return False
        self._closed.set()
        return True

    def check_process(self) -> None:
        """Refuse to go on in another process than the one that made the master.

        Raises:
            UsageError: this is a fork of it.
        """
        if os.getpid() != self._process:
            raise UsageError(
                f"this Master belongs to process {self._process}, from which this one was forked;"
                " make another one here"
            )
