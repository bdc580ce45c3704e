"""The objects that a master serves: lock and condition around a board.

One lock guards the board, the sources and what waits to be read. Transitions are the board's and
never wait; here they are tried, and waited for. A thread that waits holds no task: it takes one
only after a look at whether its caller is still there, so that a client killed while blocked in
`get()` swallows nothing. What dq's own workers are given comes back with the end of their
connection; so to one that waits, whoever has a task for it may send that without such a look.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dq._support.naming import setting
from dq.core.board import Board
from dq.core.jobs import Job, Rules
from dq.core.leases import Lease, LeaseHolder
from dq.core.records import Batch, Done, Failed, Failure, Loads, Recorded, as_error
from dq.data import batches, sources
from dq.data.batches import BadValue
from dq.data.decoding import Decoder
from dq.data.encoding import encode
from dq.data.sources import Source
from dq.dispatch.presence import Presence
from dq.dispatch.served_job import PLAIN, ServedJob
from dq.errors import BadInput, DqError
from dq.functions.spec import JobSpec
from dq.security.safe_pickle import safe_loads
from dq.transport.channel import Channel
from dq.transport.limits import KEEPALIVE_S, MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from dq.journal.replay import Replay  # SQLite, which few runs need
    from dq.journal.writer import Entry

WORD = (
    1.0  # seconds that the tasks of a dead process wait for its supervisor to say which it was in
)
SLICE = 1.0  # seconds after which a blocked call looks at its caller's socket
AT_ONCE = 256  # records of a journal that a reader gets together
PROMPT = 16 * 1024  # bytes that any socket whose peer waits takes without blocking


@dataclass(slots=True, eq=False)
class Connection:
    """One connection, and what a plain client holds by it."""

    channel: Channel
    holder: LeaseHolder
    specs: dict[str, int] = field(default_factory=dict)  # of jobs, and how many definitions
    has_default: bool = False
    inputs_held: deque[Lease] = field(default_factory=deque)
    items_held: list[Lease] = field(default_factory=list)
    result_held: list[object] = field(default_factory=list)
    joined: bool = False
    gets_tasks: bool = False  # of a plain client


class PendingRequest:
    """A thread that waits for something to lease, in the name of its connection.

    Attributes:
        bell: held until there may be something.
        lease: what it got from another thread.
        answered: whether that thread has sent it, too.
    """

    __slots__ = ("answer", "answered", "bell", "connection", "lease", "most")

    def __init__(
        self, connection: Connection, most: int | None, answer: Callable[[Lease], None] | None
    ) -> None:
        self.connection = connection
        self.most = most
        self.answer = answer
        self.bell = threading.Lock()
        self.bell.acquire()
        self.lease: Lease | None = None
        self.answered = False


class Unfinished:
    """How many items of a queue nobody has called done, as `queue.Queue` counts them.

    Args:
        lock: guards it.
    """

    def __init__(self, lock: threading.RLock) -> None:
        self.count = 0
        self.none_left = threading.Condition(lock)

    def add(self, count: int) -> None:
        """So many more were put."""
        self.count += count

    def done(self, count: int) -> None:
        """So many are done."""
        self.count = max(self.count - count, 0)
        if not self.count:
            self.none_left.notify_all()


class Answered(Exception):
    """Raised in a thread whose connection has had its answer from another one."""


class Dispatcher:
    """Everything that a master serves.

    Args:
        default: the function for what plain clients put; None leaves that to workers' ``--task``.
        maxsize: how many tasks plain clients may have waiting; 0 for any number.
        redeliver: give out again what a plain client got when its connection ends.
        max_message: bytes of the largest input or result.
        keepalive: seconds after which a machine that says nothing counts as gone.
        hash_seed: of the processes that work for it.
        loads: what unpickles results that plain clients will get.
        clock: seconds of a steady clock.
        log: told, in one line, what people should know.
    """

    def __init__(
        self,
        *,
        default: JobSpec | None = None,
        maxsize: int = 0,
        redeliver: bool = True,
        max_message: int = MAX_MESSAGE_BYTES,
        keepalive: int = KEEPALIVE_S,
        hash_seed: int = 0,
        loads: Loads = safe_loads,
        clock: Callable[[], float] = time.monotonic,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.run = os.urandom(8).hex()
        self.max_message = max_message
        self.keepalive = keepalive
        self.hash_seed = hash_seed
        self.other_code: set[tuple[str, str, str]] = (
            set()
        )  # that has been said: group, file, digest
        self.maxsize = maxsize
        self.redeliver = redeliver
        self._loads = loads
        self.clock = clock
        self.log = log
        self.board = Board(_lease_ids())
        self.lock = threading.RLock()  # guards everything below, and the board
        self._waiting: dict[PendingRequest, None] = {}  # for something to lease; the newest last
        self.room = threading.Condition(self.lock)  # the plain task queue has shrunk
        self.arrived = threading.Condition(self.lock)  # a plain result has come
        self.changed = threading.Condition(self.lock)  # a holder came or went
        self._news = 0  # how often somebody was told that there may be something to lease
        # Held while inputs are taken and pickled: the GIL lets one thread at a time do that anyway,
        # and a thousand that have taken theirs and wait would have a thousand batches in memory.
        self._turn = threading.Lock()
        self._here = threading.local()  # .peer: whose request this thread serves
        self._holder_ids = iter(range(1, 2**63))
        self.told: set[int] = set()  # leases of processes that have ended in no task
        self.stopping = False
        self.unfinished_tasks = Unfinished(self.lock)
        self.unfinished_results = Unfinished(self.lock)
        self.results: deque[object] = deque()
        self._abandoned: deque[ServedJob] = deque()
        self._closing = threading.Lock()  # held while what was abandoned is closed
        self.presence = Presence(self)
        self.own = ""  # group whose refusals the master itself raises, so that none says them twice
        self._sinks: deque[tuple[Callable[[Recorded], None], Recorded]] = deque()
        self.served_jobs: dict[str, ServedJob] = {}
        self.has_refusals = False  # whether somebody has refused a job
        self._open_plain(default)

    # Jobs, for the master

    def open(
        self,
        spec: JobSpec,
        rules: Rules,
        source: Source,
        replay: Replay | None = None,
        *,
        reader_feeds: bool = False,
    ) -> ServedJob:
        """Add a job; its inputs go out from now on, but for those that the journal has. With
        `reader_feeds` whoever reads its records also reads its inputs, and waits for both."""
        with self.lock:
            job = self.board.open_job(spec.id, rules)
            decoder = Decoder(spec.reading)
            news = threading.Condition(self.lock)
            refill = news if reader_feeds else threading.Condition(self.lock)
            served = ServedJob(spec, job, source, decoder, news, refill)
            served.reads_ahead = reader_feeds
            if replay is not None:
                served.replay = replay
                replay.journal.start(self._on_disk, served.plain_input)
            self.served_jobs[spec.id] = served
            if source.length is not None:
                self.board.supply(spec.id, source.length)
                self.board.end(spec.id)
            self.announce()
        return served

    def feed(self, served: ServedJob) -> None:
        """Read a job's inputs ahead until they end; runs in a thread of its own."""
        served.reads_ahead = True
        while True:
            with self.lock:
                while not served.closed and self._is_fed(served):
                    served.refill.wait()
                if served.closed:
                    return
            if not self.read_ahead(served):
                return

    def needs_refill(self, served: ServedJob) -> bool:
        """Whether more of a job's inputs should be read."""
        with self.lock:
            return not (served.closed or served.job.ended or self._is_fed(served))

    def read_ahead(self, served: ServedJob) -> bool:
        """Read some more inputs, one by one as long as each may have to be waited for; False at
        their end."""
        with self.lock:
            most = max(served.read_ahead_limit(self.board.slots), 1)
            count = served.step = 1 if served.is_slow else min(8 * served.step, most)
            if served.replay is not None:  # fewer than a record needs are of no use
                count = max(count, served.replay.missing(served.job.next))
        started = self.clock()
        more = served.source.read(count)
        took = self.clock() - started
        served.is_slow = took > 0.005 or took > 50e-6 * count
        if not more:
            self.end_inputs(served)
            return False
        with self.lock:
            self._supply(served)
        return True

    def end_inputs(self, served: ServedJob) -> None:
        """No inputs come after those that have been read."""
        with self.lock:
            self._supply(served)
            self.board.end(served.spec.id)
            served.news.notify_all()
            self.announce()

    def _is_fed(self, served: ServedJob) -> bool:
        return len(served.source.buffer) >= served.read_ahead_limit(self.board.slots)

    def push(self, served: ServedJob, item: object) -> None:
        """Add an input to a job whose inputs come one by one."""
        with self.lock:
            served.source.buffer.append(item)
            self.board.supply(served.spec.id, 1)
        self.hand_out()

    def revoke(self, served: ServedJob, index: int) -> None:
        """Let no worker have an input that was pushed, if none has it yet: its result is None."""
        with self.lock:
            place = index - served.job.next
            if 0 <= place < len(served.source.buffer):
                served.source.buffer[place] = sources.CANCELLED

    def run_sinks(self) -> None:
        """Hand records to those that take them one by one: a user's code, so not under the lock.
        A thread of its own for that would cost 40 µs of the 150 that a single call takes."""
        while self._sinks:
            try:
                sink, record = self._sinks.popleft()
            except IndexError:
                return  # another thread was faster
            sink(record)

    def sync(self) -> None:
        """Let workers have what slow sources have read so far, expire leases, close what was
        abandoned."""
        self.close_abandoned()
        with self.lock:
            for served in self.served_jobs.values():
                if not served.job.ended and served.source.length is None:
                    self._supply(served)
            self.deliver(self.board.expire(self.clock()))
            if self.board.due() is not None:
                self.announce()
        self.run_sinks()

    def read(self, served: ServedJob, timeout: float | None = None) -> list[Recorded] | None:
        """Records of a job as they come; None when there are no more to come, [] on time-out."""
        with self.lock:
            self._replay(served)
            if not served.records and not served.finished:
                served.news.wait(timeout)
                self._replay(served)  # the inputs' end may have come, and before the journal's
            if served.records:
                records = list(served.records)
                served.records.clear()
                return records
            return None if served.finished else []

    def unread(self, served: ServedJob) -> list[Recorded]:
        """The records of a job that nobody has read, for who reads no more."""
        with self.lock:
            records = list(served.records)
            served.records.clear()
            return records

    def _replay(self, served: ServedJob) -> None:
        """Take the next of what the journal has, as long as it is its turn."""
        replay, job = served.replay, served.job
        if replay is None:
            return
        if replay.journal.error is not None:
            raise replay.journal.error
        while self._is_replaying(served) and (missing := replay.missing(job.next)):
            _, count = job.take(missing)
            try:
                record = replay.take(job.id, served.source.take(count))
            except DqError:
                self.board.stop(job.id, "its journal is of other inputs")  # no worker gets more
                raise
            if served.runs_low(self.board.slots):
                served.refill.notify()
            if record is not None:
                self.board.record(record.batch, record.outcome, record.worker)
                served.records.append(record)  # as it was then, its attempts included
        served.refill.notify()
        self.announce()
        if job.stopped is None and job.ended and not job.unbatched and job.next < replay.left:
            raise BadInput(
                f"there are {job.next} inputs, and the journal {replay.journal.path} has"
                f" {replay.left}; give another {setting('journal')}"
            )

    def _is_replaying(self, served: ServedJob) -> bool:
        """Whether a reader should have more of the journal at once: in an ordered run, records
        that wait for an earlier one fill the window here too."""
        job = served.job
        if not job.unbatched or job.stopped is not None or len(served.records) >= AT_ONCE:
            return False
        return job.has_room(self.board.slots)

    def _on_disk(self, entries: list[Entry]) -> None:
        """Pass on what the journal has written; nothing, where it has failed."""
        with self.lock:
            if not entries:
                self.wake_readers()
            for entry in entries:
                served = entry.owner
                assert isinstance(served, ServedJob)
                served.unwritten -= 1
                served.records.append(entry.record)
                served.news.notify()
            self.announce()

    def consumed(self, served: ServedJob, records: list[Recorded]) -> None:
        """Note that records have been passed on, so that as much more may come."""
        with self.lock:
            nbytes = sum(record.nbytes for record in records)
            self.board.consumed(served.spec.id, len(records), nbytes)
            self.announce()

    def close(self, served: ServedJob) -> None:
        """Take a job off the board; what workers still do for it is dropped."""
        with self.lock:
            served.closed = True
            served.refill.notify_all()
            self.served_jobs.pop(served.spec.id, None)
            self.board.close_job(served.spec.id)
        if served.replay is not None:
            served.replay.journal.close()  # not under the lock, which its writer needs

    def close_journals(self) -> None:
        """Write what is left to be written, of all jobs."""
        for served in list(self.served_jobs.values()):
            if served.replay is not None:
                served.replay.journal.close()

    def abandon(self, served: ServedJob) -> None:
        """Have a job closed soon. Takes no lock: an iterator that nobody keeps is collected in
        any thread, in the midst of anything, a transition of the board included."""
        self._abandoned.append(served)

    def close_abandoned(self) -> None:
        """Close what was abandoned; once this returns, its journal can be opened again."""
        with self._closing:
            while self._abandoned:
                self.close(self._abandoned.popleft())

    def halt(self, served: ServedJob, reason: str) -> None:
        """Give out no more of a job; what is running may finish."""
        with self.lock:
            if served.spec.id in self.board.jobs:
                self.board.stop(served.spec.id, reason)
            served.closed = True
            served.refill.notify_all()
            served.news.notify_all()

    def drain(self) -> None:
        """Give out nothing more at all; what is running may finish."""
        with self.lock:
            self.board.draining = True
            for served in self.served_jobs.values():
                self.board.stop(served.spec.id, "drained")
                served.news.notify_all()
            self._wake_all()

    def stop(self) -> None:
        """Tell everybody who asks that this is the end."""
        with self.lock:
            self.board.draining = True
            self.stopping = True
            for served in self.served_jobs.values():
                served.closed = True
                served.refill.notify_all()
            self._wake_all()
            joins = self.unfinished_tasks.none_left, self.unfinished_results.none_left
            for condition in (self.room, self.arrived, self.changed, *joins):
                condition.notify_all()

    def wake_readers(self) -> None:
        """Let who waits for records look at what else there is."""
        with self.lock:
            for served in self.served_jobs.values():
                served.news.notify_all()

    @property
    def busy(self) -> int:
        """How many leases are out."""
        return len(self.board.leases)

    @property
    def slots(self) -> int:
        """How many task slots are connected."""
        return self.board.slots

    def wait_empty(self, timeout: float) -> bool:
        """Wait until no dq worker is connected."""
        with self.lock:
            return self.changed.wait_for(
                lambda: not any(h.group for h in self.board.holders.values()), timeout
            )

    # Connections, for the server

    @contextmanager
    def serving(self, channel: Channel) -> Iterator[None]:
        """Everything that is asked within comes from this connection; at its end what it held
        goes back."""
        connection = Connection(channel, LeaseHolder(next(self._holder_ids), is_slot=False))
        self._here.connection = connection
        channel.on_received = lambda: self._settle(connection)
        channel.on_sent = connection.result_held.clear
        try:
            yield
        finally:
            self._leave(connection)

    def _leave(self, connection: Connection) -> None:
        with self.lock:
            self.presence.leave(connection)
            self.results.extendleft(reversed(connection.result_held))
            if connection.result_held:
                self.arrived.notify()
            # Ours: whoever had them is a worker that died. Each goes in front, so the oldest last.
            for lease in reversed(connection.inputs_held):
                self.deliver(
                    self.board.died(lease.id, lease.next, "its connection ended", self.clock())
                )
            self._hear_of(connection.holder)
            self.board.leave(connection.holder)
            if (
                self.has_refusals and connection.holder.group != self.own
            ):  # of which the master has yet to hear
                self.board.readmit(connection.holder.group)
            self.changed.notify_all()
            self.announce()

    def _hear_of(self, holder: LeaseHolder) -> None:
        """Wait for a supervisor's word on which task a process died in. It comes within
        milliseconds, in which a poison task could kill whoever else waits for work, uncounted."""
        held = self.board.held.get(holder.id, set())  # a charge takes the lease out

        def heard() -> bool:
            return held <= self.told or self.stopping or not self._is_watched(holder.group)

        if holder.is_slot:
            self.changed.wait_for(heard, WORD)
            self.told -= held

    def _is_watched(self, group: str) -> bool:
        return any(h.group == group and not h.is_slot for h in self.board.holders.values())

    def _settle(self, connection: Connection) -> None:
        """A plain client that asks for anything else has what it got before."""
        if connection.items_held:
            with self.lock:
                for lease in connection.items_held:
                    self.board.ack(lease.id)
                connection.items_held.clear()

    # For the faces

    @property
    def connection(self) -> Connection:
        """Whose request this thread serves."""
        connection: Connection = self._here.connection
        return connection

    def lease(
        self,
        connection: Connection,
        timeout: float | None,
        most: int | None = None,
        answer: Callable[[Lease], None] | None = None,
    ) -> Lease | None:
        """Wait for something to do, for a caller that is still there.

        Args:
            peer: the caller.
            timeout: seconds.
            most: tasks that it may have at once.
            answer: sends it a lease, from whatever thread has one for it.

        Raises:
            Answered: that has been done.
            EOFError: the caller has gone.
        """
        self.join(connection)
        deadline = None if timeout is None else self.clock() + timeout
        # Before the first try too: with `redeliver` off nothing would come back. What a dq worker
        # gets does; and to look is a system call, at which a thread can lose the GIL.
        looks = answer is None
        while True:
            with self._turn:
                with self.lock:
                    if looks and connection.channel.peer_closed():
                        self._wake_one()  # the call that woke this thread is for another one
                        raise EOFError
                    cut, news = self._try(connection, most), self._news
                lease = self._complete(connection, cut) if cut is not None else None
            if lease is not None:
                return lease
            if cut is not None:
                self.run_sinks()  # nothing of it could be sent
                continue
            waiter = PendingRequest(connection, most, answer)
            if not self._await_work(waiter, news, deadline):
                return None
            if waiter.answered:
                raise Answered
            if waiter.lease is not None:
                return waiter.lease
            self.run_sinks()  # what came for this one may have been nothing to be sent
            looks = True

    def _await_work(self, waiter: PendingRequest, news: int, deadline: float | None) -> bool:
        """Wait until there may be something new to lease; False when it is time to give up."""
        with self.lock:
            left = self._patience(deadline)
            if left <= 0 or self.stopping:
                return False
            if news != self._news:
                return True
            self._waiting[waiter] = None
        if not waiter.bell.acquire(timeout=left):
            with self.lock:
                taken = waiter not in self._waiting
                self._waiting.pop(waiter, None)
            if taken:
                waiter.bell.acquire()
        return True

    def _wake_one(self) -> None:
        # The newest: its process is the one that is still in the processor's caches.
        if self._waiting:
            self._waiting.popitem()[0].bell.release()

    def _wake_all(self) -> None:
        while self._waiting:
            self._wake_one()

    def hand_out(self) -> None:
        """Let who waits for something to lease have what has just come. Where that is a dq worker,
        this thread sends it: to wake the worker's own thread first would take 20 µs of the 100
        that a single call takes."""
        with self.lock:
            waiter = next(reversed(self._waiting), None)
            if waiter is None or waiter.answer is None:
                self.announce()
                return
            del self._waiting[waiter]
            cut = self._try(waiter.connection, waiter.most)
            if cut is None:
                self._waiting[waiter] = None
                self.announce()
                return
        try:
            waiter.lease = lease = self._complete(waiter.connection, cut)
            if lease is not None and len(lease.batch.blob) <= PROMPT:
                waiter.answered = True
                with suppress(OSError):  # its own thread will see that it has gone
                    waiter.answer(lease)
        finally:
            waiter.bell.release()

    def _patience(self, deadline: float | None) -> float:
        left = SLICE if deadline is None else min(SLICE, deadline - self.clock())
        due = self.board.due()
        return left if due is None else min(left, max(due - self.clock(), 0.001))

    def _try(
        self, connection: Connection, most: int | None
    ) -> tuple[Batch, list[object] | None] | None:
        """A batch that waits, or a fresh one with its items; None where there is neither."""
        wanted = self.board.wanted(
            connection.holder,
            self.clock(),
            lambda job: self._may(connection, job),
            self._is_journals_turn,
        )
        if wanted is None:
            return None
        if isinstance(wanted, Batch):
            batch = self._at_most(wanted, most)
            self.announce()  # there may be more, for the next who waits
            return batch, None
        served = self.served_jobs[wanted]
        if served.replay is not None:
            most = _least(most, served.replay.room(served.job.next))
        start, count = self.board.take_batch(wanted, most)
        items = served.source.take(count)
        if served.runs_low(self.board.slots):
            served.refill.notify()
        if wanted == PLAIN:
            self.room.notify(count)
        self.announce()
        return Batch(wanted, start, count, b""), items

    def _at_most(self, batch: Batch, most: int | None) -> Batch:
        if most is None or batch.count <= most:
            return batch
        self.board.put_back(batch.part(batch.start + most, batch.stop))
        return batch.part(batch.start, batch.start + most)

    def _may(self, connection: Connection, job: Job) -> bool:
        """Whether a peer can do a job: everybody, but for what has no function; nobody, while no
        outcome could be recorded."""
        replay = self.served_jobs[job.id].replay
        if replay is not None and replay.stuck:
            return False
        if not connection.holder.group or self.served_jobs[job.id].spec.ref is not None:
            return True
        return connection.has_default

    def _is_journals_turn(self, job: Job) -> bool:
        """Whether a job's next inputs have outcomes on record."""
        replay = self.served_jobs[job.id].replay
        return replay is not None and replay.missing(job.next) > 0

    def _complete(
        self, connection: Connection, cut: tuple[Batch, list[object] | None]
    ) -> Lease | None:
        """Encode a fresh batch, outside the lock: pickling may run a user's code."""
        batch, items = cut
        if items is None:
            with self.lock:
                return self.board.grant(connection.holder, batch, self.clock())
        start = batch.start
        parts: list[tuple[Batch, Failure | None]] = []
        served = self.served_jobs.get(batch.job)
        define = None if served is None else served.define
        for count, blob in encode(items, self.max_message, define=define):
            failure = blob if isinstance(blob, Failure) else None
            data = batches.dump([None]) if isinstance(blob, Failure) else blob
            parts.append((Batch(batch.job, start, count, data), failure))
            start += count
        with self.lock:
            return self._grant_first(connection, parts)

    def _grant_first(
        self, connection: Connection, parts: list[tuple[Batch, Failure | None]]
    ) -> Lease | None:
        job = self.board.jobs.get(parts[0][0].job)
        if job is None:
            return None
        (batch, failure), *others = parts
        if failure is None and not others:  # nearly always: nothing has to wait
            job.sizer.sent(batch.count, len(batch.blob))
            return self.board.grant(connection.holder, batch, self.clock())
        for batch, failure in reversed(parts):
            if failure is not None:
                # What was cancelled has not failed: it does not count towards `max_failures`.
                cancelled = failure is sources.CANCELLED.failure
                outcome = Done(1, batch.blob) if cancelled else Failed(failure, retry=False)
                self.deliver(self.board.record(batch, outcome, ""), ran=False)
            else:
                job.sizer.sent(batch.count, len(batch.blob))
                self.board.put_back(batch)
        next = job.waiting.pop(self.clock())
        self.announce()
        return None if next is None else self.board.grant(connection.holder, next, self.clock())

    def join(self, connection: Connection) -> None:
        if not connection.joined:
            with self.lock:
                self.board.join(connection.holder)
                connection.joined = True
                self.changed.notify_all()

    def announce(self) -> None:
        """Wake who waits for something to lease: one, who passes it on when there is more; all,
        where the one might be somebody who must not have it. Nobody for nothing: a thread that
        wakes takes the GIL from the one that has something to do, 20 µs each time."""
        if not self.board.has_more:
            return
        self._news += 1
        if self.has_refusals or self._is_for_some():
            self._wake_all()
        else:
            self._wake_one()

    def _is_for_some(self) -> bool:
        """Whether there are items of plain clients that only workers with a --task can do."""
        served = self.served_jobs.get(PLAIN)
        if served is None or served.spec.ref is not None:
            return False
        return served.job.has_more

    # Outcomes

    def deliver(self, recorded: list[Recorded], ran: bool = True) -> None:
        """Pass on what has come to be on record. What never `ran` is not for the journal: it will
        fail again, and has nothing to be known by."""
        for record in recorded:
            served = self.served_jobs.get(record.batch.job)
            if served is None:
                continue
            if record.batch.job == PLAIN:
                self._put_results(served, record)
            elif served.replay is not None and ran:
                served.unwritten += 1
                served.replay.add(served, record)
            elif served.sink is not None:
                self._sinks.append((served.sink, record))
            else:
                served.records.append(record)
        for id in {record.batch.job for record in recorded}:
            if id in self.served_jobs:
                self.served_jobs[id].news.notify()
        self.announce()

    def _put_results(self, served: ServedJob, record: Recorded) -> None:
        """Outcomes of what plain clients put, as bare values: a failure is a RuntimeError, which
        any Python can unpickle."""
        outcome = record.outcome
        if isinstance(outcome, Failed):
            values: list[object] = [as_error(outcome.failure)]
        else:
            try:
                values = batches.load(outcome.blob, self._loads)
                if len(values) != outcome.count:
                    raise ValueError("there is not one result for each task")
            except Exception as error:
                values = [as_error(Failure(type(error).__name__, str(error)))] * outcome.count
        bad = BadValue
        self.put_results([as_error(v.failure) if isinstance(v, bad) else v for v in values])
        self.board.consumed(PLAIN, 1, record.nbytes)
        self.unfinished_tasks.done(record.batch.count)

    def put_results(self, values: list[object]) -> None:
        """Let plain clients have these. There is always room: with a bound, workers would wait
        for a client that puts all of its tasks before it gets the first result."""
        self.results.extend(values)
        self.unfinished_results.add(len(values))
        self.arrived.notify(len(values))

    # Sources

    def _open_plain(self, default: JobSpec | None) -> None:
        spec = default or JobSpec(PLAIN, None)
        self.open(spec, Rules(window=2**62), Source(iter(())))

    def _supply(self, served: ServedJob) -> None:
        new = len(served.source.buffer) - served.job.unbatched
        if new > 0 and not served.closed:
            self.board.supply(served.spec.id, new)
            self.announce()
            if served.replay is not None and served.job.unbatched >= served.replay.missing(
                served.job.next
            ):
                served.news.notify()  # who reads takes them past the journal


def _lease_ids() -> Iterator[int]:
    """Numbers of 63 bits, many at a time: each look at the system's randomness is a call."""
    while True:
        for number in struct.unpack("64Q", os.urandom(512)):
            if number >> 1:
                yield number >> 1


def _least(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else min(a, b)
