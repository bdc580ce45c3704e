"""Opens and closes the jobs that are served."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from dq.core.jobs import Rules
from dq.core.records import Recorded
from dq.data.decoding import Decoder
from dq.data.sources import Source
from dq.dispatch.delivery import Delivery
from dq.dispatch.pending_requests import PendingRequests
from dq.dispatch.served_job import ServedJob
from dq.dispatch.state import DispatchState
from dq.functions.spec import JobSpec

if TYPE_CHECKING:
    from dq.journal.replay import Replay  # SQLite, which few runs need


class JobRegistry:
    """Opens, stops and closes jobs.

    Args:
        state: what the dispatcher's parts share.
        pending: woken when a new job has inputs.
        delivery: passes on what a job's journal has written.
    """

    def __init__(self, state: DispatchState, pending: PendingRequests, delivery: Delivery) -> None:
        self._lock = state.lock
        self._board = state.board
        self._served_jobs = state.served_jobs
        self._pending = pending
        self._delivery = delivery
        self._abandoned: deque[ServedJob] = deque()  # needs no lock; see `abandon`
        self._closing = threading.Lock()  # held while abandoned jobs are closed

    def open(
        self,
        spec: JobSpec,
        rules: Rules,
        source: Source,
        replay: Replay | None = None,
        *,
        reader_feeds: bool = False,
        skips: Iterable[tuple[int, int]] = (),
        sink: Callable[[Recorded], None] | None = None,
        only_for: str = "",
    ) -> ServedJob:
        """Add a job. Its inputs are leased from now on, except those with outcomes in the journal.

        Args:
            spec: what workers need to know to run its tasks.
            rules: the rules for its tasks.
            source: its inputs.
            replay: replays its journal, if it has one.
            reader_feeds: whether the thread that reads its records also reads its inputs, and so
                has to wait for both.
            skips: ranges of indices that the source does not yield; see `Board.open_job`. They are
                not for a job whose journal is replayed, which passes over its own.
            sink: called with each of its records, which then has no reader.
            only_for: the group of the only worker that may have its tasks; "" for any.
        """
        with self._lock:
            news = threading.Condition(self._lock)
            served = ServedJob(
                spec=spec,
                job=self._board.open_job(spec.id, rules, skips),
                source=source,
                decoder=Decoder(spec.reading),
                news=news,
                refill=news if reader_feeds else threading.Condition(self._lock),
                reads_ahead=reader_feeds,
                replay=replay,
                sink=sink,
                only_for=only_for,
            )
            if replay is not None:
                replay.journal.start(self._delivery.take_written, served.plain_input)
            self._served_jobs[spec.id] = served
            if source.length is not None:
                self._board.supply(spec.id, source.length)
                self._board.end(spec.id)
            if only_for:
                self._pending.exclusive.add(spec.id)
            self._pending.announce()
        return served

    def halt(self, served: ServedJob, reason: str) -> None:
        """Lease no more of a job; running tasks may finish."""
        with self._lock:
            if served.spec.id in self._board.jobs:
                self._board.stop(served.spec.id, reason)
            self._end_feeding(served)
            served.news.notify_all()

    def halt_all(self, reason: str) -> None:
        """Lease no more of any job; inputs are still read, and running tasks may finish."""
        with self._lock:
            for served in self._served_jobs.values():
                self._board.stop(served.spec.id, reason)
                served.news.notify_all()

    def end_feeding(self) -> None:
        """Stop reading the inputs of all jobs."""
        with self._lock:
            for served in self._served_jobs.values():
                self._end_feeding(served)

    def _end_feeding(self, served: ServedJob) -> None:
        served.closed = True
        served.refill.notify_all()

    def close(self, served: ServedJob) -> None:
        """Remove a job from the board. Later reports for it are dropped."""
        with self._lock:
            self._end_feeding(served)
            self._served_jobs.pop(served.spec.id, None)
            self._pending.exclusive.discard(served.spec.id)
            self._board.close_job(served.spec.id)
            served.spec = served.spec.without_functions()  # their arrays may be large
        if served.replay is not None:
            served.replay.journal.close()  # not under the lock, which its writer needs

    def close_journals(self) -> None:
        """Write the remaining records of all jobs, and close their journals. Nothing of the jobs is
        sent any more."""
        for served in list(self._served_jobs.values()):
            served.spec = served.spec.without_functions()
            if served.replay is not None:
                served.replay.journal.close()

    def abandon(self, served: ServedJob) -> None:
        """Have a job closed soon. This takes no lock, because it is called when an unused iterator
        is garbage collected: in any thread, at any moment, even during a transition of the
        board."""
        self._abandoned.append(served)

    def close_abandoned(self) -> None:
        """Close abandoned jobs. Their journals can be opened again when this returns."""
        with self._closing:
            while self._abandoned:
                self.close(self._abandoned.popleft())
