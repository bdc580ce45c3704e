"""Reports the workers and clients that join and leave a master."""

from __future__ import annotations

import logging
from collections.abc import Callable

from dq._support.screen import screen
from dq.dispatch.dispatcher import Dispatcher
from dq.master.lifetime import Lifetime
from dq.master.serving import Serving

log = logging.getLogger("dq")


class Announcer:
    """Reports to people who has joined and who has left.

    Args:
        dispatcher: records who joins and leaves.
        serving: gives the command that starts a worker.
        lifetime: once it has ended, nobody is asked to start workers.
        report: called with each line that people should see; None for the log.
        key_hint: says where to find the key for a new worker.
        has_workers: whether the master has workers of its own.

    Attributes:
        note: called with lines of minor interest.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        serving: Serving,
        lifetime: Lifetime,
        *,
        report: Callable[[str], None] | None,
        key_hint: str,
        has_workers: bool,
    ) -> None:
        self.note = report or beside_bar(log.info)
        self.key_hint = key_hint
        self._report = report or beside_bar(log.warning)
        self._dispatcher = dispatcher
        self._serving = serving
        self._lifetime = lifetime
        self._looks_for_workers = serving.has_port and not has_workers

    def announce(self) -> None:
        """Report what has changed."""
        with self._dispatcher.lock:
            notes = self._dispatcher.presence.notes()
            nobody = self._dispatcher.presence.no_worker_notice()
        for note in notes:
            (self._report if note.warning else self.note)(note.line)
        if nobody and self._looks_for_workers and not self._lifetime.closed:
            needs_task = self._dispatcher.presence.needs_task()
            command = self._serving.join_command(needs_task=needs_task)
            self._report(f"{nobody}. Start one: {command} (with {self.key_hint})")


def beside_bar(write: Callable[[str], None]) -> Callable[[str], None]:
    """The same function; the progress bar is erased while it writes to the terminal."""

    def tell(line: str) -> None:
        with screen.room():
            write(line)

    return tell
