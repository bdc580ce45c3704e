"""What has to be so when a process with threads forks."""

from __future__ import annotations

import threading
import time
from importlib import _bootstrap

IMPORTS_TIMEOUT_S = 2.0  # for imports of other threads to end; a task's module may take minutes


def await_imports() -> None:
    """Wait until no other thread imports a module; called before a fork. The fork would have the
    module's lock locked for ever, and whoever imports that module there would wait for ever: a
    thread that no longer exists would have to unlock it (https://bugs.python.org/issue6721 is of
    this kind). Codecs are imported too when they are first used, so dq's own threads do it."""
    deadline = time.monotonic() + IMPORTS_TIMEOUT_S
    while _is_importing_elsewhere() and time.monotonic() < deadline:
        time.sleep(0.001)


def _is_importing_elsewhere() -> bool:
    locks = getattr(_bootstrap, "_module_locks", {})
    me = threading.get_ident()
    found = [lock() for lock in list(locks.values())]
    return any(getattr(lock, "owner", None) not in (None, me) for lock in found)
