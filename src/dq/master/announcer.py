"""What a master says of workers and clients that come and go."""

from __future__ import annotations

import logging
from collections.abc import Callable

from dq._support.screen import screen
from dq.dispatch.dispatcher import Dispatcher
from dq.master.lifetime import Lifetime
from dq.master.serving import Serving

log = logging.getLogger("dq")


class Announcer:
    """Passes the news of who is connected on to people.

    Args:
        dispatcher: holds the news.
        serving: knows how others join.
        lifetime: after its end no workers are asked for.
        report: called with each line that people should see; None for the log.
        key_hint: where whoever starts a worker has the key from.
        has_workers: whether the master has workers of its own.

    Attributes:
        note: called with the lines that people can do without.
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
        """Say what is new."""
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
    """The same function, which has a bar make room for what it may write to a terminal."""

    def tell(line: str) -> None:
        with screen.room():
            write(line)

    return tell
