"""The lifetime of a master: from its creation until it is closed, and in one process only."""

from __future__ import annotations

import os
import threading

from dq.errors import UsageError

NOT_STARTED = "the master has not started; use it in a with statement"


class Lifetime:
    """Whether a master is closed, and whether this is still the process that made it.

    Attributes:
        is_urgent: whether a client wants it to end without waiting for running tasks.
    """

    def __init__(self) -> None:
        self.is_urgent = False
        self._closed = threading.Event()
        self._asked = threading.Event()  # also set when it is closed
        self._begun = False
        self._process = os.getpid()

    def begin(self) -> None:
        """Note that it has started."""
        self._begun = True

    def check_begun(self) -> None:
        """Refuse to go on before it has started, or in a fork.

        Raises:
            UsageError: it has not started, or this is a fork of its process.
        """
        self.check_process()
        if not self._begun:
            raise UsageError(NOT_STARTED)

    @property
    def closed(self) -> bool:
        """Whether it has stopped serving, or is about to."""
        return self._closed.is_set()

    def wait(self, timeout: float) -> bool:
        """Wait until it is closed, and return whether it is."""
        return self._closed.wait(timeout)

    def ask_to_end(self, now: bool) -> None:
        """Have whoever runs the master close it.

        Args:
            now: without waiting for running tasks.
        """
        self.is_urgent = self.is_urgent or now
        self._asked.set()

    @property
    def is_asked_to_end(self) -> bool:
        """Whether a client wants it to end."""
        return self._asked.is_set()

    def wait_until_asked(self, timeout: float) -> bool:
        """Wait until it is closed, or asked to end, and return whether it is."""
        return self._asked.wait(timeout)

    def end(self) -> bool:
        """Close it, and return whether this call did. A fork of its process cannot close it."""
        if self._closed.is_set() or os.getpid() != self._process:
            return False
        self._closed.set()
        self._asked.set()
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
