"""Counts the inputs of a file ahead of the run, to estimate the time left."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable

AT_ONCE = 10_000  # inputs between two pauses


class Counter:
    """Counts in a thread of its own.

    Args:
        opened: opens the inputs once more, with the reader of the run, so that both count alike.
    """

    def __init__(self, opened: Callable[[], Iterable[object]]) -> None:
        self.total: int | None = None
        self._opened = opened
        self._stopped = threading.Event()

    def start(self) -> None:
        """Count until the end of the inputs, or until `stop`."""
        threading.Thread(target=self._count, name="dq-counter", daemon=True).start()

    def stop(self) -> None:
        """Stop counting."""
        self._stopped.set()

    def _count(self) -> None:
        try:
            items = iter(self._opened())
            count = 0
            while not self._stopped.is_set():
                began = time.monotonic()
                found = sum(1 for _ in itertools.islice(items, AT_ONCE))
                count += found
                if found < AT_ONCE:
                    self.total = count
                    return
                # Pause for as long as the counting took, so that the run can use the interpreter.
                self._stopped.wait(time.monotonic() - began)
        except Exception:
            return  # the run itself will report what is wrong with the inputs
