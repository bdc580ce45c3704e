"""Inputs on their way to the board: read ahead from slow sources, or pushed one by one."""

from __future__ import annotations

from dq.data import sources
from dq.dispatch.leasing import Leasing
from dq.dispatch.pending_requests import PendingRequests
from dq.dispatch.served_job import ServedJob
from dq.dispatch.state import DispatchState

SLOW_READ_S = 0.005  # a read that takes longer is waited for: the next one is of a single input
SLOW_INPUT_S = 50e-6  # the same, for each input of a read


class Feeding:
    """Reads the inputs of jobs ahead of their being leased.

    It keeps nothing of its own. How fast a source is stands in `ServedJob`, where only the thread
    that reads the source changes it; the rest is guarded by the dispatcher's lock.

    Args:
        state: what the dispatcher's parts share.
        pending: woken for what has been read.
        leasing: hands out what is pushed.
    """

    def __init__(self, state: DispatchState, pending: PendingRequests, leasing: Leasing) -> None:
        self._state = state
        self._lock = state.lock
        self._board = state.board
        self._clock = state.clock
        self._pending = pending
        self._leasing = leasing

    # Read ahead

    def feed(self, served: ServedJob) -> None:
        """Read a job's inputs ahead until they end; runs in a thread of its own."""
        served.reads_ahead = True
        while True:
            with self._lock:
                while not served.closed and self._has_enough(served):
                    served.refill.wait()
                if served.closed:
                    return
            if not self.read_ahead(served):
                return

    def may_read_ahead(self, served: ServedJob) -> bool:
        """Whether more of a job's inputs should be read."""
        with self._lock:
            return not (served.closed or served.job.ended or self._has_enough(served))

    def _has_enough(self, served: ServedJob) -> bool:
        return len(served.source.buffer) >= served.read_ahead_limit(self._board.slots)

    def read_ahead(self, served: ServedJob) -> bool:
        """Read some more inputs, one by one as long as each may have to be waited for; False at
        their end."""
        with self._lock:
            most = max(served.read_ahead_limit(self._board.slots), 1)
            count = served.step = 1 if served.is_slow else min(8 * served.step, most)
            if served.replay is not None:  # fewer than a record needs are of no use
                count = max(count, served.replay.missing(served.job.next))
        started = self._clock()
        more = served.source.read(count)
        took = self._clock() - started
        served.is_slow = took > SLOW_READ_S or took > SLOW_INPUT_S * count
        if not more:
            self.end_inputs(served)
            return False
        with self._lock:
            self._supply(served)
        return True

    def end_inputs(self, served: ServedJob) -> None:
        """No inputs come after those that have been read."""
        with self._lock:
            self._supply(served)
            self._board.end(served.spec.id)
            served.news.notify_all()
            self._pending.announce()

    def supply_read(self) -> None:
        """Let workers have what slow sources have read so far, while they still read."""
        with self._lock:
            for served in self._state.served_jobs.values():
                if not served.job.ended and served.source.length is None:
                    self._supply(served)

    def _supply(self, served: ServedJob) -> None:
        """Tell the board of what has been read."""
        job = served.job
        new = len(served.source.buffer) - job.unbatched
        if new <= 0 or served.closed:
            return
        self._board.supply(job.id, new)
        self._pending.announce()
        if served.replay is not None and job.unbatched >= served.replay.missing(job.next):
            served.news.notify()  # its reader takes them past the journal

    # Pushed

    def push(self, served: ServedJob, item: object) -> None:
        """Add an input to a job whose inputs come one by one."""
        with self._lock:
            served.source.buffer.append(item)
            self._board.supply(served.spec.id, 1)
        self._leasing.hand_out()

    def revoke(self, served: ServedJob, index: int) -> None:
        """Let no worker have an input that was pushed, if none has it yet: its result is None."""
        with self._lock:
            place = index - served.job.next
            if 0 <= place < len(served.source.buffer):
                served.source.buffer[place] = sources.CANCELLED
