"""Replays records from a journal, so that their inputs are not leased again."""

from __future__ import annotations

from dq._support.naming import setting
from dq.dispatch.pending_requests import PendingRequests
from dq.dispatch.served_job import ServedJob
from dq.dispatch.state import DispatchState
from dq.errors import BadInput, DqError

REPLAY_RECORDS = 256  # records of a journal that a reader gets at once


def too_few(count: int, path: str, recorded: int) -> str:
    """The message where a journal has outcomes for more inputs than there are."""
    another = setting("journal")
    return (
        f"there are {count} inputs, and the journal {path} has {recorded}; give another {another}"
    )


class Replaying:
    """Skips the inputs for which a job's journal has outcomes, and delivers those.

    This class has no state of its own; `ServedJob.replay` has a job's position. All methods are
    called with the dispatcher's lock held.

    Args:
        state: what the dispatcher's parts share.
        pending: woken when there are inputs that the journal does not have.
    """

    def __init__(self, state: DispatchState, pending: PendingRequests) -> None:
        self._board = state.board
        self._pending = pending

    def advance(self, served: ServedJob) -> None:
        """Deliver the journal's next records to the reader, as long as they are next.

        Raises:
            BadInput: the journal has outcomes for more inputs than there are.
            InputChanged: an input differs from the one that was recorded.
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
            raise BadInput(too_few(job.next, replay.journal.path, replay.left))

    def _take(self, served: ServedJob, missing: int) -> None:
        """Take the inputs that the journal's next record still needs, or as many as there are."""
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
            served.records.append(record)  # as it was recorded, including its attempts

    def _is_next(self, served: ServedJob) -> bool:
        """Whether to deliver more of the journal now. In an ordered run, records that wait for an
        earlier one fill the window here too."""
        job = served.job
        if not job.unbatched or job.stopped is not None or len(served.records) >= REPLAY_RECORDS:
            return False
        return job.has_room(self._board.slots)
