"""Workers that have loaded another version of a file than the run began with."""

from __future__ import annotations

from collections.abc import Callable

from dq._support.naming import setting
from dq.core.leases import LeaseHolder
from dq.core.records import printable
from dq.dispatch.state import DispatchState
from dq.functions.module_versions import PRELOADED

MOST_WARNINGS = 1000  # of a run


class OtherVersions:
    """Warns once for each worker and each other version that it has loaded.

    Args:
        state: what the dispatcher's parts share.

    Attributes:
        on_other: called each time with the job's id, the process, the file and its digest; without
            the lock.
    """

    def __init__(self, state: DispatchState) -> None:
        self._lock = state.lock
        self._known: set[tuple[str, str, str]] = set()  # group, file, digest; guarded by the lock
        self.on_other: Callable[[str, str, str, str], None] | None = None

    def warning(self, holder: LeaseHolder, file: str, digest: str) -> str | None:
        """A warning about a worker's version of a file; None if it was shown before."""
        known = holder.group, file, digest
        with self._lock:
            if known in self._known or len(self._known) >= MOST_WARNINGS:
                return None
            self._known.add(known)
        return described(holder.name, file, digest, than="this run began with")


def described(process: str, file: str, digest: str, *, than: str) -> str:
    """That a process has another version of a file than somebody else, for people."""
    if digest == PRELOADED:
        return printable(
            f"worker {process} works with {file} as it has preloaded it, and it has changed since;"
            " a new worker would import it anew"
        )
    return printable(
        f"worker {process} has loaded another version of {file} than {than}, and works with it;"
        f" {setting('strict_code')} refuses that"
    )
