"""Recorded outcomes, on their way to those who read them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from dq.core.records import Recorded
from dq.dispatch.pending_requests import PendingRequests
from dq.dispatch.plain_queue import PlainQueue
from dq.dispatch.replaying import Replaying
from dq.dispatch.served_job import PLAIN, ServedJob
from dq.dispatch.state import DispatchState

if TYPE_CHECKING:
    from dq.journal.writer import Entry  # SQLite, which few runs need


class Delivery:
    """Passes records on: to plain clients, to a journal and from there to readers, or to readers.

    Args:
        state: what the dispatcher's parts share.
        pending: woken where a record makes room for more to be leased.
        plain: given what is for plain clients.
        replaying: asked, before a reader waits, for what the journal has.
    """

    def __init__(
        self,
        state: DispatchState,
        pending: PendingRequests,
        plain: PlainQueue,
        replaying: Replaying,
    ) -> None:
        self._lock = state.lock
        self._board = state.board
        self._served_jobs = state.served_jobs
        self._pending = pending
        self._plain = plain
        self._replaying = replaying
        # Of records with whom takes them. A deque needs no lock: `run_sinks` takes none.
        self._sinks: deque[tuple[Callable[[Recorded], None], Recorded]] = deque()

    # From the board

    def deliver(self, recorded: list[Recorded], ran: bool = True) -> None:
        """Pass on what has come to be on record; under the lock. What never `ran` is not for the
        journal: it will fail again, and has nothing to be known by."""
        for record in recorded:
            served = self._served_jobs.get(record.batch.job)
            if served is None:
                continue
            if record.batch.job == PLAIN:
                self._plain.put_record(record)
            elif served.replay is not None and ran:
                served.unwritten += 1
                served.replay.add(served, record)
            elif served.sink is not None:
                self._sinks.append((served.sink, record))
            else:
                served.records.append(record)
        for id in {record.batch.job for record in recorded}:
            if id in self._served_jobs:
                self._served_jobs[id].news.notify()
        self._pending.announce()

    def take_written(self, entries: list[Entry]) -> None:
        """Pass on what the journal has written; nothing, where it has failed."""
        with self._lock:
            if not entries:
                self.wake_readers()
            for entry in entries:
                served = entry.owner
                assert isinstance(served, ServedJob)
                served.unwritten -= 1
                served.records.append(entry.record)
                served.news.notify()
            self._pending.announce()

    def run_sinks(self) -> None:
        """Hand records to those that take them one by one: a user's code, so not under the lock.
        A thread of its own for that would cost 40 µs of the 150 that a single call takes."""
        while self._sinks:
            try:
                sink, record = self._sinks.popleft()
            except IndexError:
                return  # another thread was faster
            sink(record)

    # To readers

    def read(self, served: ServedJob, timeout: float | None = None) -> list[Recorded] | None:
        """Records of a job as they come; None when there are no more to come, [] on time-out."""
        with self._lock:
            self._replaying.advance(served)
            if not served.records and not served.finished:
                served.news.wait(timeout)
                # The inputs' end may have come, and before that of what the journal has.
                self._replaying.advance(served)
            if served.records:
                return self._take_records(served)
            return None if served.finished else []

    def unread(self, served: ServedJob) -> list[Recorded]:
        """The records of a job that nobody has read, for a reader that ends early."""
        with self._lock:
            return self._take_records(served)

    def _take_records(self, served: ServedJob) -> list[Recorded]:
        records = list(served.records)
        served.records.clear()
        return records

    def consumed(self, served: ServedJob, records: list[Recorded]) -> None:
        """Note that records have been passed on, so that as much more may come."""
        with self._lock:
            nbytes = sum(record.nbytes for record in records)
            self._board.consumed(served.spec.id, len(records), nbytes)
            self._pending.announce()

    def wake_readers(self) -> None:
        """Wake all readers, so that they look at why there may be no more records."""
        with self._lock:
            for served in self._served_jobs.values():
                served.news.notify_all()
