"""Chooses and encodes the next batch for a connection."""

from __future__ import annotations

from collections.abc import Iterator

from dq.core.jobs import Job
from dq.core.leases import Lease
from dq.core.records import Batch, Failed, Failure
from dq.data import batches
from dq.data.buffers import copy_of
from dq.data.encoding import encode
from dq.dispatch.connections import Consumer
from dq.dispatch.delivery import Delivery
from dq.dispatch.pending_requests import PendingRequests
from dq.dispatch.plain_queue import PlainQueue
from dq.dispatch.served_job import PLAIN
from dq.dispatch.state import DispatchState

# A batch, and the items to encode if its inputs were taken from the source just now.
Chosen = tuple[Batch, list[object] | None]


class BatchMaker:
    """Chooses what a connection should do next, and encodes it.

    There are two steps. The inputs are chosen under the lock, and pickled without it, because
    pickling may run a user's code. This class has no state of its own.

    Args:
        state: what the dispatcher's parts share.
        pending: woken if there is more to lease.
        plain: notified when there is room in the task queue.
        delivery: gets the recorded failures of inputs that cannot be encoded.
        max_message: bytes of the largest input.
    """

    def __init__(
        self,
        state: DispatchState,
        pending: PendingRequests,
        plain: PlainQueue,
        delivery: Delivery,
        *,
        max_message: int,
    ) -> None:
        self._lock = state.lock
        self._clock = state.clock
        self._board = state.board
        self._served_jobs = state.served_jobs
        self._pending = pending
        self._plain = plain
        self._delivery = delivery
        self._max_message = max_message

    # The first step, under the lock

    def choose(self, consumer: Consumer, most: int | None) -> Chosen | None:
        """A requeued batch, or a new one with its items; None if there is neither."""
        wanted = self._board.wanted(
            consumer.holder,
            self._clock(),
            lambda job: self._may_have(consumer, job),
            self._is_replayed_next,
        )
        if wanted is None:
            return None
        if isinstance(wanted, Batch):
            batch = self._at_most(wanted, most)
            self._board.jobs[batch.job].chosen[batch.start] = batch
            self._pending.announce()  # there may be more, for the next request
            return batch, None
        served = self._served_jobs[wanted]
        if served.job.cancelled:
            served.drop_cancelled()
            if not served.job.unbatched:
                return self.choose(consumer, most)
        if served.replay is not None:
            most = _least(most, served.replay.room(served.job.next))
        start, count = self._board.take_batch(wanted, most)
        items = served.source.take(count)
        if served.needs_refill(self._board.slots):
            served.refill.notify()
        if wanted == PLAIN:
            self._plain.room.notify(count)
        self._pending.announce()
        batch = served.job.chosen[start] = Batch(job=wanted, start=start, count=count, blob=b"")
        return batch, items

    def _may_have(self, consumer: Consumer, job: Job) -> bool:
        """Whether a connection may have tasks of a job. It may not if it has no function for them,
        or while outcomes cannot be written to the job's journal."""
        served = self._served_jobs[job.id]
        if served.is_stuck or (served.only_for and served.only_for != consumer.holder.group):
            return False
        if not consumer.holder.group or served.spec.has_function:
            return True
        return consumer.has_default

    def _is_replayed_next(self, job: Job) -> bool:
        """Whether the journal has outcomes for a job's next inputs."""
        replay = self._served_jobs[job.id].replay
        return replay is not None and replay.missing(job.next) > 0

    def _at_most(self, batch: Batch, most: int | None) -> Batch:
        if most is None or batch.count <= most:
            return batch
        self._board.put_back(batch.part(batch.start + most, batch.stop))
        return batch.part(batch.start, batch.start + most)

    # The second, without it

    def lease(self, consumer: Consumer, chosen: Chosen) -> Lease | None:
        """Encode a new batch, and lease it. Returns None if its job has ended, or if none of its
        inputs can be encoded."""
        batch, items = chosen
        if items is None:
            with self._lock:
                return self._lease_again(consumer, batch)
        try:
            parts = self._encode(batch, items)
        except BaseException as error:  # Ctrl-C, while the code of a value ran
            self._give_up(batch, error)
            raise
        with self._lock:
            return self._lease_first(consumer, batch, parts)

    def _encode(self, batch: Batch, items: list[object]) -> list[tuple[Batch, Failure | None]]:
        """Encode as batches that can be sent, and single tasks that cannot, with their failures."""
        start = batch.start
        parts: list[tuple[Batch, Failure | None]] = []
        served = self._served_jobs.get(batch.job)
        define = None if served is None else served.definitions.add
        together = batches.ANYTHING if served is None else served.together
        for count, blob in encode(items, self._max_message, define, together):
            failure = blob if isinstance(blob, Failure) else None
            data = batches.dump([None]) if isinstance(blob, Failure) else blob
            if together == batches.NOTHING:
                data = copy_of(data)  # the caller of `submit` may change an array from now on
            part = Batch(job=batch.job, start=start, count=count, blob=data)
            parts.append((part, failure))
            start += count
        return parts

    def _lease_again(self, consumer: Consumer, batch: Batch) -> Lease | None:
        job = self._board.jobs.get(batch.job)
        if job is None:
            return None
        now = job.chosen.pop(batch.start, batch)
        if now is not batch:  # one of its tasks was cancelled meanwhile
            self._board.put_back(now)
            return self._lease_next(consumer, job)
        return self._board.grant(consumer.holder, batch, self._clock())

    def _lease_first(
        self,
        consumer: Consumer,
        chosen: Batch,
        parts: list[tuple[Batch, Failure | None]],
    ) -> Lease | None:
        job = self._board.jobs.get(chosen.job)
        if job is None:
            return None
        if job.chosen.pop(chosen.start, chosen) is not chosen:  # one was cancelled meanwhile
            parts = list(_still_open(job, parts))
            if not parts:
                return None
        (batch, failure), *others = parts
        if failure is None and not others:  # nearly always: the whole batch can be sent
            job.sizer.sent(batch.count, len(batch.blob))
            return self._board.grant(consumer.holder, batch, self._clock())
        for batch, failure in reversed(parts):
            if failure is not None:
                self._fail(batch, failure)
            else:
                job.sizer.sent(batch.count, len(batch.blob))
                self._board.put_back(batch)
        return self._lease_next(consumer, job)

    def _lease_next(self, consumer: Consumer, job: Job) -> Lease | None:
        next = self._board.take_waiting(job.id, self._clock())
        self._pending.announce()
        if next is None:
            return None
        return self._board.grant(consumer.holder, next, self._clock())

    def _give_up(self, batch: Batch, error: BaseException) -> None:
        """Fail all tasks of a batch whose encoding was interrupted. Nobody would lease them again,
        and they would be waited for."""
        failure = Failure(type(error).__name__, "this input was interrupted while it was pickled")
        blob = batches.dump([None])
        parts: list[tuple[Batch, Failure | None]] = [
            (Batch(job=batch.job, start=index, count=1, blob=blob), failure)
            for index in range(batch.start, batch.stop)
        ]
        with self._lock:
            job = self._board.jobs.get(batch.job)
            if job is None:
                return
            if job.chosen.pop(batch.start, batch) is not batch:  # one was cancelled meanwhile
                parts = list(_still_open(job, parts))
            for part, _ in parts:
                self._fail(part, failure)

    def _fail(self, batch: Batch, failure: Failure) -> None:
        recorded = self._board.record(batch, Failed(failure, retry=False), "")
        self._delivery.deliver(recorded, ran=False)


def _still_open(
    job: Job, parts: list[tuple[Batch, Failure | None]]
) -> Iterator[tuple[Batch, Failure | None]]:
    """What is left of the parts of a batch of which tasks have been cancelled."""
    for part, failure in parts:
        marked = part.part(part.start, part.stop, redelivered=True)
        for run in job.waiting.open_runs(marked):
            yield run, failure


def _least(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else min(a, b)
