"""The calls of an executor that have no outcome yet, and what their master knows of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import cast

from dq.errors import ProtocolError
from dq.master.call_queue import CallQueue
from dq.service.call_wire import Begun, Event


class PendingCalls:
    """What the threads of a `RemoteCalls` share.

    Args:
        place: where the master is, for users.
        report: called with each line that people should see.

    Attributes:
        changed: its lock guards everything here. It is notified when something changes in a way
            that a thread may wait for.
        queue: the calls.
        digests: of the functions that calls need, by the calls' indices.
        id: that the master knows them by.
        is_open: whether the master knows the id.
        is_closing: whether no more calls come.
    """

    def __init__(self, place: str, report: Callable[[str], None]) -> None:
        self.place = place
        self.report = report
        self.changed = threading.Condition()
        self.queue = CallQueue()
        self.digests: dict[int, bytes] = {}
        self.id = _new_id()
        self.is_open = False
        self.is_closing = False

    def add(self, index: int, item: bytes, digest: bytes) -> None:
        """Add a call, and the digest of the function that it needs."""
        with self.changed:
            self.queue.add(index, item)
            self.digests[index] = digest

    def cancel(self, index: int) -> None:
        """Have a call ended."""
        with self.changed:
            self.queue.cancel(index)
            self.digests.pop(index, None)
            self.changed.notify_all()

    def opened(self, id: str) -> None:
        """Note that the master knows an id."""
        with self.changed:
            if self.id == id:
                self.is_open = True
                self.changed.notify_all()

    def close(self) -> bool:
        """Note that no more calls come. Returns whether that is news."""
        with self.changed:
            was_closing, self.is_closing = self.is_closing, True
            self.changed.notify_all()
        return not was_closing

    def begin_anew(self, id: str) -> None:
        """Note that the master does not know an id, since it is another one."""
        with self.changed:
            if self.id != id or self.is_closing:
                return
            self.id, self.is_open = _new_id(), False
            self.queue.begin_anew()
            count = len(self.queue.calls)
            self.changed.notify_all()
        if count:
            self.report(
                f"the master at {self.place} does not know its calls any more: {count} of them are"
                " made again"
            )

    def note_accepted(self, id: str, stop: int, answer: object) -> bool:
        """Note which calls the master has taken. Returns whether it has no room for the others."""
        if answer is None:
            self.begin_anew(id)
            return False
        next = cast("int", answer)
        with self.changed:
            if self.id == id:
                self.queue.accepted(next)
        return next < stop

    def of_event(self, id: str, event: Event) -> list[tuple[int, bytes | None]] | None:
        """The indices of the calls that an event is about, and what they consisted of; those with
        an outcome are forgotten. None if the calls were begun anew in the meantime, which takes no
        longer than it takes to unpickle some results: the same numbers now mean other calls.

        Raises:
            ProtocolError: the master does not have them.
        """
        with self.changed:
            if self.id != id:
                return None
            if isinstance(event, Begun):
                indices = self.queue.indices(event.start, event.count)
                return [(index, None) for index in indices]
            try:
                found = self.queue.remove(event.batch.start, event.batch.count)
            except KeyError:
                raise ProtocolError(
                    "the master sends outcomes of calls that it does not have"
                ) from None
            for index, _ in found:
                self.digests.pop(index, None)
            return found


def _new_id() -> str:
    return os.urandom(16).hex()
