"""Inputs on their way to the board: read ahead from slow sources, or pushed one by one."""

from __future__ import annotations

from dq.dispatch.pending_requests import PendingRequests
from dq.dispatch.served_job import ServedJob
from dq.dispatch.state import DispatchState
from dq.dispatch.worker_requests import WorkerRequests

SLOW_READ_S = 0.005  # a read that takes longer is slow: inputs are then read one by one
SLOW_INPUT_S = 50e-6  # the same, for each input in a read


class Feeding:
    """Reads the inputs of jobs before they are leased.

    This class has no state of its own. `ServedJob` has the speed of a source, which only the thread
    that reads the source changes. Everything else is guarded by the dispatcher's lock.

    Args:
        state: what the dispatcher's parts share.
        pending: woken when inputs have been read.
        requests: of the workers, to which inputs that are pushed are leased.
    """

    def __init__(
        self, state: DispatchState, pending: PendingRequests, requests: WorkerRequests
    ) -> None:
        self._state = state
        self._lock = state.lock
        self._board = state.board
        self._clock = state.clock
        self._pending = pending
        self._requests = requests

    # Read ahead

    def feed(self, served: ServedJob) -> None:
        """Read a job's inputs ahead until they end. This runs in a thread of its own."""
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

    def read_ahead(self, served: ServedJob, most: int | None = None) -> bool:
        """Read more inputs, at most `most` of them, and one by one if the source is slow. Returns
        False when they have ended."""
        with self._lock:
            most = most or max(served.read_ahead_limit(self._board.slots), 1)
            count = served.step = 1 if served.is_slow else min(8 * served.step, most)
            if served.replay is not None:  # a record needs all of its inputs
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
        """Note that the inputs that have been read are the last."""
        with self._lock:
            self._supply(served)
            self._board.end(served.spec.id)
            served.news.notify_all()
            self._pending.announce()

    def supply_read(self) -> None:
        """Supply what slow sources have read so far, while they are still reading."""
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
            served.news.notify()  # its reader replays the journal for these inputs

    # Pushed

    def push(self, served: ServedJob, item: object) -> None:
        """Add an input to a job whose inputs come one by one. `hand_out` has to be called next."""
        with self._lock:
            served.source.buffer.append(item)
            self._board.supply(served.spec.id, 1)

    def hand_out(self) -> None:
        """Lease an input that was pushed, if a worker waits for one."""
        self._requests.hand_out()
