"""Records that a journal has already, read in place of their inputs being leased."""

from __future__ import annotations

from dq._support.naming import setting
from dq.dispatch.pending_requests import PendingRequests
from dq.dispatch.served_job import ServedJob
from dq.dispatch.state import DispatchState
from dq.errors import BadInput, DqError

REPLAY_RECORDS = 256  # of a journal, that a reader gets together


class Replaying:
    """Takes jobs past the inputs that their journals have outcomes of.

    It keeps nothing of its own; how far a job is, is in `ServedJob.replay`. All of it is called
    with the dispatcher's lock held.

    Args:
        state: what the dispatcher's parts share.
        pending: woken for the inputs after those that the journal has.
    """

    def __init__(self, state: DispatchState, pending: PendingRequests) -> None:
        self._board = state.board
        self._pending = pending

    def advance(self, served: ServedJob) -> None:
        """Let a reader have the next of what the journal has, as long as it is its turn.

        Raises:
            BadInput: the journal has outcomes of more inputs than there are.
            InputChanged: an input is not what it was then.
        """
        replay, job = served.replay, served.job
        if replay is None:
            return
        if replay.journal.error is not None:
            raise replay.journal.error
        while self._is_next(served) and (missing := replay.missing(job.next)):
            self._take(served, missing)
        served.refill.notify()
        self._pending.announce()
        if job.stopped is None and job.ended and not job.unbatched and job.next < replay.left:
            raise BadInput(
                f"there are {job.next} inputs, and the journal {replay.journal.path} has"
                f" {replay.left}; give another {setting('journal')}"
            )

    def _take(self, served: ServedJob, missing: int) -> None:
        """Take a job past as many inputs as the journal's next record needs still, or there are."""
        replay, job = served.replay, served.job
        assert replay is not None
        _, count = job.take(missing)
        try:
            record = replay.take(job.id, served.source.take(count))
        except DqError:
            self._board.stop(job.id, "its journal is of other inputs")  # no worker gets more
            raise
        if served.needs_refill(self._board.slots):
            served.refill.notify()
        if record is not None:
            self._board.record(record.batch, record.outcome, record.worker)
            served.records.append(record)  # as it was then, its attempts included

    def _is_next(self, served: ServedJob) -> bool:
        """Whether a reader should have more of the journal at once: in an ordered run, records
        that wait for an earlier one fill the window here too."""
        job = served.job
        if not job.unbatched or job.stopped is not None or len(served.records) >= REPLAY_RECORDS:
            return False
        return job.has_room(self._board.slots)
