"""Delivers recorded outcomes to their readers."""

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


def _nothing(job: str) -> None:
    pass


class Delivery:
    """Passes records on to plain clients, or to readers; with a journal, once it has written them.

    Args:
        state: what the dispatcher's parts share.
        pending: woken when a record makes room for more leases.
        plain: gets the records for plain clients.
        replaying: asked for records of the journal before a reader waits.

    Attributes:
        on_ending: called, with the lock held, for a job that too many failures have stopped.
        on_superseded: called, with the lock held, for a job of which a task still runs that has its
            outcome from another copy.
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
        self._with_news: set[str] = set()  # ids of jobs whose readers have not been notified yet
        # Pairs of a record and its sink. A deque needs no lock, and `run_sinks` takes none.
        self._sinks: deque[tuple[Callable[[Recorded], None], Recorded]] = deque()
        self.on_ending: Callable[[str], None] = _nothing
        self.on_superseded: Callable[[str], None] = _nothing

    # From the board

    def deliver(self, recorded: list[Recorded], ran: bool = True, *, notify: bool = True) -> None:
        """Pass on new records; called with the lock held.

        Args:
            recorded: the records.
            ran: whether their tasks have run. Others are not written to the journal, since they
                would fail again and have no digest.
            notify: whether to wake the readers now. Otherwise `notify_readers` has to be called
                soon.
        """
        for record in recorded:
            served = self._served_jobs.get(record.batch.job)
            if served is None:
                continue
            if served.job.ending:
                self.on_ending(record.batch.job)
            if served.job.superseded:
                self.on_superseded(record.batch.job)
            if record.batch.job == PLAIN:
                self._plain.put_record(record)
            elif served.replay is not None and ran:
                served.unwritten += 1
                served.replay.add(served, record)
            elif served.sink is not None:
                self._sinks.append((served.sink, record))
                continue  # it has no reader
            else:
                served.records.append(record)
            self._with_news.add(record.batch.job)
        if notify:
            self.notify_readers()
        self._pending.announce()

    def notify_readers(self) -> None:
        """Wake the readers of new records, if this has not been done yet."""
        if not self._with_news:
            return
        with self._lock:
            while self._with_news:
                served = self._served_jobs.get(self._with_news.pop())
                if served is not None:
                    served.news.notify()

    def take_written(self, entries: list[Entry]) -> None:
        """Pass on what the journal has written, or nothing if it has failed."""
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
        """Call the sinks, without the lock because they run a user's code. A thread of its own for
        them would add 40 µs to the 150 µs that a single call takes."""
        while self._sinks:
            try:
                sink, record = self._sinks.popleft()
            except IndexError:
                return  # another thread was faster
            sink(record)

    # To readers

    def read(self, served: ServedJob, timeout: float | None = None) -> list[Recorded] | None:
        """A job's next records; None if no more will come, [] on time-out."""
        with self._lock:
            self._replaying.advance(served)
            if not served.records and not served.finished:
                served.news.wait(timeout)
                # The inputs may have ended before the journal's records did.
                self._replaying.advance(served)
            if served.records:
                return self._take_records(served)
            return None if served.finished else []

    def unread(self, served: ServedJob) -> list[Recorded]:
        """A job's records that were not read, for a reader that ends early."""
        with self._lock:
            return self._take_records(served)

    def _take_records(self, served: ServedJob) -> list[Recorded]:
        records = list(served.records)
        served.records.clear()
        return records

    def consumed(self, served: ServedJob, records: list[Recorded]) -> None:
        """Note that records were read, which makes room for more."""
        with self._lock:
            nbytes = sum(record.nbytes for record in records)
            self._board.consumed(served.spec.id, len(records), nbytes)
            self._pending.announce()

    def notify_reader(self, job: str) -> None:
        """Wake the reader of a job, so that it checks whether more records will come."""
        served = self._served_jobs.get(job)
        if served is not None:
            served.news.notify_all()

    def wake_readers(self) -> None:
        """Wake all readers, so that they check whether more records will come."""
        with self._lock:
            for served in self._served_jobs.values():
                served.news.notify_all()
