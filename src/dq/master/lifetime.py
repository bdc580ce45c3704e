"""The lifetime of a master: from its creation until it is closed, and in one process only."""

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
        """Wait until it is closed, and return whether it is."""
        return self._closed.wait(timeout)

    def end(self) -> bool:
        """Close it, and return whether this call did. A fork of its process cannot close it."""
        if self._closed.is_set() or os.getpid() != self._process:
            return False
        self._closed.set()
        return True

    def check_process(self) -> None:
        """Refuse to go on in a process other than the one that made the master.

        Raises:
            UsageError: this is a fork of that process.
        """
        if os.getpid() != self._process:
            raise UsageError(
                f"this Master belongs to process {self._process}, from which this one was forked;"
                " make another one here"
            )
