"""Calls in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable


def in_thread(call: Callable[[], object]) -> threading.Thread:
    """Start a call in a thread that does not keep the process from ending."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread
