"""The objects that a master serves: lock and condition around a board.

One lock guards the board, the sources and what waits to be read. Transitions are the board's and
never wait; here they are tried, and waited for. A thread that waits holds no task: it takes one
only after a look at whether its caller is still there, so that a client killed while blocked in
`get()` swallows nothing.
"""

from __future__ import annotations

import os
import pickle
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dq import inputs, outputs
from dq.board import Board, Holder, Job, Lease, Report, Rules
from dq.errors import BadInput, ProtocolError
from dq.records import Batch, Done, Failed, Failure, Outcome, Recorded, Result
from dq.tasks import JobSpec
from dq.transport import MAX_MESSAGE, Channel, safe_loads

if TYPE_CHECKING:
    from dq.journal import Entry, Replay  # SQLite, which few runs need

PROTOCOL = 1
PLAIN = "plain"  # id of the job that plain clients put into
WORD = (
    1.0  # seconds that the tasks of a dead process wait for its supervisor to say which it was in
)
SLICE = 1.0  # seconds after which a blocked call looks at its caller's socket
MARGIN = 64 * 1024  # bytes that a message has besides its blobs
AT_ONCE = 256  # records of a journal that a reader gets together

Wire = tuple[object, ...]


@dataclass(slots=True)
class Line:
    """A job with its inputs and, until somebody reads them, its records."""

    spec: JobSpec
    job: Job
    source: inputs.Source
    decoder: inputs.Decoder
    news: threading.Condition
    hungry: threading.Condition
    records: deque[Recorded] = field(default_factory=deque)
    closed: bool = False
    sink: Callable[[Recorded], None] | None = None  # takes records in place of `records`
    replay: Replay | None = None
    unwritten: int = 0  # records on their way to the journal

    @property
    def finished(self) -> bool:
        """Whether no more records can come."""
        if self.unwritten and self.job.stopped is not None and self.replay is not None:
            return self.job.finished and self.replay.stuck  # the rest is not waited for
        return self.job.finished and not self.unwritten

    def values(self, batch: Batch) -> list[object]:
        """The inputs of a batch."""
        return self.decoder.decode(batch.blob, batch.skip, batch.count)


@dataclass(slots=True, eq=False)
class Peer:
    """One connection, and what a plain client holds by it."""

    channel: Channel
    holder: Holder
    specs: set[str] = field(default_factory=set)
    has_default: bool = False
    inputs_held: deque[Lease] = field(default_factory=deque)
    items_held: list[Lease] = field(default_factory=list)
    result_held: list[object] = field(default_factory=list)
    joined: bool = False


class Queues:
    """Everything that a master serves.

    Args:
        default: the function for what plain clients put; None leaves that to workers' ``--task``.
        maxsize: how many items plain clients may have waiting; 0 for any number.
        redeliver: give out again what a plain client got when its connection ends.
        max_message: bytes of the largest message.
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
        max_message: int = MAX_MESSAGE,
        loads: inputs.Loads = safe_loads,
        clock: Callable[[], float] = time.monotonic,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.run = os.urandom(8).hex()
        self.max_message = max_message
        self._maxsize = maxsize
        self._redeliver = redeliver
        self._loads = loads
        self._clock = clock
        self._log = log
        lease_ids = random.SystemRandom()
        self._board = Board(iter(lambda: lease_ids.getrandbits(63), 0))
        self._lock = threading.RLock()  # guards everything below, and the board
        self._work = threading.Condition(self._lock)  # there may be something to lease
        self._room = threading.Condition(self._lock)  # the plain task queue has shrunk
        self._arrived = threading.Condition(self._lock)  # a plain result has come
        self._settled = threading.Condition(self._lock)  # nothing that was put is unfinished
        self._changed = threading.Condition(self._lock)  # a holder came or went
        self._here = threading.local()  # .peer: whose request this thread serves
        self._holder_ids = iter(range(1, 2**63))
        self._told: set[int] = set()  # leases of processes that have ended in no task
        self._stopping = False
        self._unfinished = 0
        self._results: deque[object] = deque()
        self._abandoned: deque[Line] = deque()
        self._closing = threading.Lock()  # held while what was abandoned is closed
        self.own = ""  # group whose refusals the master itself raises, so that none says them twice
        self._sinks: deque[tuple[Callable[[Recorded], None], Recorded]] = deque()
        self._lines: dict[str, Line] = {}
        self._picky = False  # whether not everybody may have everything
        self._open_plain(default)
        self.task_queue = TaskQueue(self)
        self.result_queue = ResultQueue(self)
        self.leases = LeaseFace(self)

    # Jobs, for the master

    def open(
        self,
        spec: JobSpec,
        rules: Rules,
        source: inputs.Source,
        replay: Replay | None = None,
    ) -> Line:
        """Add a job; its inputs go out from now on, but for those that the journal has."""
        with self._lock:
            job = self._board.open_job(spec.id, rules)
            decoder = inputs.Decoder(spec.inputs, spec.fields, spec.raw)
            line = Line(
                spec,
                job,
                source,
                decoder,
                threading.Condition(self._lock),
                threading.Condition(self._lock),
            )
            if replay is not None:
                line.replay = replay
                replay.journal.start(self._on_disk)
            self._lines[spec.id] = line
            if source.length is not None:
                self._board.supply(spec.id, source.length)
                self._board.end(spec.id)
            self._announce()
        return line

    def feed(self, line: Line) -> None:
        """Read a job's inputs ahead until they end; runs in a thread of its own."""
        slow = True  # a source is read one by one until it shows that it need not be waited for
        count = 1
        while True:
            with self._lock:
                while not line.closed and len(line.source.buffer) >= self._appetite(line):
                    line.hungry.wait()
                if line.closed:
                    return
                count = 1 if slow else min(8 * count, max(self._appetite(line), 1))
                if line.replay is not None:  # fewer than a record needs are of no use
                    count = max(count, line.replay.missing(line.job.next))
            started = self._clock()
            more = line.source.read(count)
            took = self._clock() - started
            slow = took > 0.005 or took > 50e-6 * count
            with self._lock:
                self._supply(line)
                if not more:
                    self._board.end(line.spec.id)
                    line.news.notify_all()
                    self._announce()
                    return

    def push(self, line: Line, item: object) -> None:
        """Add an input to a job whose inputs come one by one."""
        with self._lock:
            line.source.buffer.append(item)
            self._board.supply(line.spec.id, 1)
            self._announce()

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
        with self._lock:
            for line in self._lines.values():
                if not line.job.ended and line.source.length is None:
                    self._supply(line)
            self._deliver(self._board.expire(self._clock()))
            if self._board.due() is not None:
                self._announce()
        self.run_sinks()

    def read(self, line: Line, timeout: float | None = None) -> list[Recorded] | None:
        """Records of a job as they come; None when there are no more to come, [] on time-out."""
        with self._lock:
            self._replay(line)
            if not line.records and not line.finished:
                line.news.wait(timeout)
                self._replay(line)  # the inputs' end may have come, and before the journal's
            if line.records:
                records = list(line.records)
                line.records.clear()
                return records
            return None if line.finished else []

    def _replay(self, line: Line) -> None:
        """Take the next of what the journal has, as long as it is its turn."""
        replay, job = line.replay, line.job
        if replay is None:
            return
        if replay.journal.error is not None:
            raise replay.journal.error
        while self._is_replaying(line) and (missing := replay.missing(job.next)):
            _, count = self._board.take(job.id, missing)
            record = replay.take(job.id, line.source.take(count))
            if len(line.source.buffer) < self._appetite(line) // 2:
                line.hungry.notify()
            if record is not None:
                self._board.record(record.batch, record.outcome, record.worker)
                line.records.append(record)  # as it was then, its attempts included
        line.hungry.notify()
        self._announce()
        if job.stopped is None and job.ended and not job.uncut and job.next < replay.left:
            raise BadInput(
                f"there are {job.next} inputs, and the journal {replay.journal.path} has"
                f" {replay.left}; give another --journal"
            )

    def _is_replaying(self, line: Line) -> bool:
        """Whether a reader should have more of the journal at once: in an ordered run, records
        that wait for an earlier one fill the window here too."""
        job = line.job
        if not job.uncut or job.stopped is not None or len(line.records) >= AT_ONCE:
            return False
        return self._board.has_room(job)

    def _on_disk(self, entries: list[Entry]) -> None:
        """Pass on what the journal has written; nothing, where it has failed."""
        with self._lock:
            if not entries:
                self.wake_readers()
            for entry in entries:
                line = entry.owner
                assert isinstance(line, Line)
                line.unwritten -= 1
                line.records.append(entry.record)
                line.news.notify()
            self._announce()

    def consumed(self, line: Line, records: list[Recorded]) -> None:
        """Note that records have been passed on, so that as much more may come."""
        with self._lock:
            nbytes = sum(record.nbytes for record in records)
            self._board.consumed(line.spec.id, len(records), nbytes)
            self._work.notify()

    def close(self, line: Line, reason: str = "closed") -> None:
        """Take a job off the board; what workers still do for it is dropped."""
        with self._lock:
            line.closed = True
            line.hungry.notify_all()
            self._lines.pop(line.spec.id, None)
            self._board.close_job(line.spec.id)
        if line.replay is not None:
            line.replay.journal.close()  # not under the lock, which its writer needs

    def close_journals(self) -> None:
        """Write what is left to be written, of all jobs."""
        for line in list(self._lines.values()):
            if line.replay is not None:
                line.replay.journal.close()

    def abandon(self, line: Line) -> None:
        """Have a job closed soon. Takes no lock: an iterator that nobody keeps is collected in
        any thread, in the midst of anything, a transition of the board included."""
        self._abandoned.append(line)

    def close_abandoned(self) -> None:
        """Close what was abandoned; once this returns, its journal can be opened again."""
        with self._closing:
            while self._abandoned:
                self.close(self._abandoned.popleft())

    def halt(self, line: Line, reason: str) -> None:
        """Give out no more of a job; what is running may finish."""
        with self._lock:
            if line.spec.id in self._board.jobs:
                self._board.stop(line.spec.id, reason)
            line.closed = True
            line.hungry.notify_all()
            line.news.notify_all()

    def drain(self) -> None:
        """Give out nothing more at all; what is running may finish."""
        with self._lock:
            self._board.draining = True
            for line in self._lines.values():
                self._board.stop(line.spec.id, "drained")
                line.news.notify_all()
            self._work.notify_all()

    def stop(self) -> None:
        """Tell everybody who asks that this is the end."""
        with self._lock:
            self._board.draining = True
            self._stopping = True
            for line in self._lines.values():
                line.closed = True
                line.hungry.notify_all()
            for condition in (self._work, self._room, self._arrived, self._settled, self._changed):
                condition.notify_all()

    def wake_readers(self) -> None:
        """Let who waits for records look at what else there is."""
        with self._lock:
            for line in self._lines.values():
                line.news.notify_all()

    @property
    def busy(self) -> int:
        """How many leases are out."""
        return len(self._board.leases)

    @property
    def slots(self) -> int:
        """How many task slots are connected."""
        return self._board.slots

    def wait_empty(self, timeout: float) -> bool:
        """Wait until no dq worker is connected."""
        with self._lock:
            return self._changed.wait_for(
                lambda: not any(h.group for h in self._board.holders.values()), timeout
            )

    # Connections, for the server

    @contextmanager
    def connection(self, channel: Channel) -> Iterator[None]:
        """Everything that is asked within comes from this connection; at its end what it held
        goes back."""
        peer = Peer(channel, Holder(next(self._holder_ids), counts=False))
        self._here.peer = peer
        channel.on_received = lambda: self._settle(peer)
        channel.on_sent = peer.result_held.clear
        try:
            yield
        finally:
            self._leave(peer)

    def _leave(self, peer: Peer) -> None:
        with self._lock:
            self._results.extendleft(reversed(peer.result_held))
            if peer.result_held:
                self._arrived.notify()
            # Ours: whoever had them is a worker that died. Each goes in front, so the oldest last.
            for lease in reversed(peer.inputs_held):
                self._deliver(
                    self._board.died(lease.id, lease.next, "its connection ended", self._clock())
                )
            self._hear_of(peer.holder)
            self._board.leave(peer.holder)
            self._changed.notify_all()
            self._announce()

    def _hear_of(self, holder: Holder) -> None:
        """Wait for a supervisor's word on which task a process died in. It comes within
        milliseconds, in which a poison task could kill whoever else waits for work, uncounted."""
        held = self._board.held.get(holder.id, set())  # a charge takes the lease out

        def heard() -> bool:
            return held <= self._told or self._stopping or not self._is_watched(holder.group)

        if holder.counts:
            self._changed.wait_for(heard, WORD)
            self._told -= held

    def _is_watched(self, group: str) -> bool:
        return any(h.group == group and not h.counts for h in self._board.holders.values())

    def _settle(self, peer: Peer) -> None:
        """A plain client that asks for anything else has what it got before."""
        if peer.items_held:
            with self._lock:
                for lease in peer.items_held:
                    self._board.settle(lease.id)
                peer.items_held.clear()

    # Leases, for the faces

    def _lease(self, peer: Peer, timeout: float | None, most: int | None = None) -> Lease | None:
        """Wait for something to do, for a caller that is still there."""
        self._join(peer)
        deadline = None if timeout is None else self._clock() + timeout
        while True:
            with self._lock:
                # Before the first try too: with `redeliver` off nothing would come back.
                if peer.channel.gone():
                    self._work.notify()  # the call that woke this thread is for another one
                    raise EOFError
                cut = self._try(peer, most)
                if cut is None:
                    left = self._patience(deadline)
                    if left <= 0 or self._stopping:
                        return None
                    self._work.wait(left)
                    continue
            lease = self._complete(peer, cut)
            if lease is not None:
                return lease

    def _patience(self, deadline: float | None) -> float:
        left = SLICE if deadline is None else min(SLICE, deadline - self._clock())
        due = self._board.due()
        return left if due is None else min(left, max(due - self._clock(), 0.001))

    def _try(self, peer: Peer, most: int | None) -> tuple[Batch, list[object] | None] | None:
        """A batch that waits, or a fresh one with its items; None where there is neither."""
        wanted = self._board.wanted(
            peer.holder, self._clock(), lambda job: self._may(peer, job), self._is_journals_turn
        )
        if wanted is None:
            return None
        self._announce()  # there may be more, for the next who waits
        if isinstance(wanted, Batch):
            return self._at_most(wanted, most), None
        line = self._lines[wanted]
        if line.replay is not None:
            most = _least(most, line.replay.room(line.job.next))
        start, count = self._board.cut(wanted, most)
        items = line.source.take(count)
        if len(line.source.buffer) < self._appetite(line) // 2:
            line.hungry.notify()
        if wanted == PLAIN:
            self._room.notify(count)
        return Batch(wanted, start, count, b""), items

    def _at_most(self, batch: Batch, most: int | None) -> Batch:
        if most is None or batch.count <= most:
            return batch
        self._board.put_back(batch.part(batch.start + most, batch.stop))
        return batch.part(batch.start, batch.start + most)

    def _may(self, peer: Peer, job: Job) -> bool:
        """Whether a peer can do a job: everybody, but for what has no function; nobody, while no
        outcome could be recorded."""
        replay = self._lines[job.id].replay
        if replay is not None and replay.stuck:
            return False
        if not peer.holder.group or self._lines[job.id].spec.ref is not None:
            return True
        return peer.has_default

    def _is_journals_turn(self, job: Job) -> bool:
        """Whether a job's next inputs have outcomes on record."""
        replay = self._lines[job.id].replay
        return replay is not None and replay.missing(job.next) > 0

    def _complete(self, peer: Peer, cut: tuple[Batch, list[object] | None]) -> Lease | None:
        """Encode a fresh batch, outside the lock: pickling may run a user's code."""
        batch, items = cut
        if items is None:
            with self._lock:
                return self._board.grant(peer.holder, batch, self._clock())
        start = batch.start
        parts: list[tuple[Batch, Failure | None]] = []
        for count, blob in inputs.encode(items, self.max_message - MARGIN):
            failure = blob if isinstance(blob, Failure) else None
            data = inputs.dump([None]) if isinstance(blob, Failure) else blob
            parts.append((Batch(batch.job, start, count, data), failure))
            start += count
        with self._lock:
            return self._grant_first(peer, parts)

    def _grant_first(self, peer: Peer, parts: list[tuple[Batch, Failure | None]]) -> Lease | None:
        job = self._board.jobs.get(parts[0][0].job)
        if job is None:
            return None
        for batch, failure in reversed(parts):
            if failure is not None:
                recorded = self._board.record(batch, Failed(failure, retry=False), "")
                self._deliver(recorded, ran=False)
            else:
                job.sizer.sent(batch.count, len(batch.blob))
                self._board.put_back(batch)
        next = job.pop(self._clock())
        return None if next is None else self._board.grant(peer.holder, next, self._clock())

    def _join(self, peer: Peer) -> None:
        if not peer.joined:
            with self._lock:
                self._board.join(peer.holder)
                peer.joined = True
                self._changed.notify_all()

    def _announce(self) -> None:
        """Wake who waits for something to lease: one, who passes it on when there is more; all,
        where the one might be somebody who must not have it."""
        if self._picky:
            self._work.notify_all()
        else:
            self._work.notify()

    # Outcomes

    def _deliver(self, recorded: list[Recorded], ran: bool = True) -> None:
        """Pass on what has come to be on record. What never `ran` is not for the journal: it will
        fail again, and has nothing to be known by."""
        for record in recorded:
            line = self._lines.get(record.batch.job)
            if line is None:
                continue
            if record.batch.job == PLAIN:
                self._put_results(line, record)
            elif line.replay is not None and ran:
                line.unwritten += 1
                line.replay.add(line, record)
            elif line.sink is not None:
                self._sinks.append((line.sink, record))
            else:
                line.records.append(record)
        for id in {record.batch.job for record in recorded}:
            if id in self._lines:
                self._lines[id].news.notify()
        self._announce()

    def _put_results(self, line: Line, record: Recorded) -> None:
        """Outcomes of what plain clients put, as bare values: a failure is a RuntimeError, which
        any Python can unpickle."""
        outcome = record.outcome
        if isinstance(outcome, Failed):
            values: list[object] = [_as_error(outcome.failure)]
        else:
            try:
                values = inputs.load(outcome.blob, self._loads)
            except Exception as error:
                values = [_as_error(Failure(type(error).__name__, str(error)))]
        for value in values:
            self._results.append(
                _as_error(value.failure) if isinstance(value, inputs.Bad) else value
            )
        self._board.consumed(PLAIN, 1, record.nbytes)
        self._arrived.notify(len(values))
        self._finish(record.batch.count)

    def _finish(self, count: int) -> None:
        self._unfinished = max(self._unfinished - count, 0)
        if not self._unfinished:
            self._settled.notify_all()

    # Sources

    def _open_plain(self, default: JobSpec | None) -> None:
        spec = default or JobSpec(PLAIN, None)
        self._picky = spec.ref is None
        self.open(spec, Rules(window=2**62), inputs.Source(iter(())))

    def _supply(self, line: Line) -> None:
        new = len(line.source.buffer) - line.job.uncut
        if new > 0 and not line.closed:
            self._board.supply(line.spec.id, new)
            self._announce()
            if line.replay is not None and line.job.uncut >= line.replay.missing(line.job.next):
                line.news.notify()  # who reads takes them past the journal

    def _appetite(self, line: Line) -> int:
        """How many inputs to have read ahead: enough for the next two batches of each slot, and
        no more than a megabyte or so."""
        sizer = line.job.sizer
        if line.replay is not None and (ahead := line.replay.ahead(line.job.next)):
            return ahead
        if not sizer.nbytes:
            return 4
        ahead = 2 * sizer.size(None, self._board.slots) * max(self._board.slots, 1)
        return max(min(max(64, ahead), int(2**20 / sizer.nbytes)), 2)


def _least(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else min(a, b)


def _as_error(failure: Failure) -> RuntimeError:
    return RuntimeError(failure.type, failure.message, failure.traceback)


class TaskQueue:
    """The plain face's task queue, with the methods of `queue.Queue`."""

    EXPOSED = (
        "put",
        "put_nowait",
        "get",
        "get_nowait",
        "qsize",
        "empty",
        "full",
        "task_done",
        "join",
    )

    def __init__(self, queues: Queues) -> None:
        self._q = queues

    def put(self, item: object, block: bool = True, timeout: float | None = None) -> None:
        q = self._q
        line = q._lines[PLAIN]
        deadline = _deadline(q, block, timeout)
        with q._lock:
            while q._maxsize and len(line.source.buffer) >= q._maxsize:
                if not _wait(q, q._room, deadline):
                    raise queue.Full
            line.source.buffer.append(item)
            q._unfinished += 1
            q._board.supply(PLAIN, 1)
            q._announce()

    def put_nowait(self, item: object) -> None:
        self.put(item, block=False)

    def get(self, block: bool = True, timeout: float | None = None) -> object:
        q = self._q
        peer: Peer = q._here.peer
        deadline = _deadline(q, block, timeout)
        lease = q._lease(peer, None if deadline is None else deadline - q._clock(), most=1)
        if lease is None:
            raise EOFError if q._stopping else queue.Empty
        line = q._lines.get(lease.batch.job)
        if line is None:
            return self.get(block, timeout)  # its job was closed meanwhile
        [value] = line.values(lease.batch)
        if lease.batch.job != PLAIN:
            peer.inputs_held.append(lease)
        elif q._redeliver:
            peer.items_held.append(lease)
        else:
            with q._lock:
                q._board.settle(lease.id)
        return value

    def get_nowait(self) -> object:
        return self.get(block=False)

    def qsize(self) -> int:
        """How many items wait, those that came back included."""
        with self._q._lock:
            return sum(
                job.uncut + sum(batch.count for batch in job.waiting) + len(job.delayed)
                for job in self._q._board.jobs.values()
            )

    def empty(self) -> bool:
        return not self.qsize()

    def full(self) -> bool:
        with self._q._lock:
            waiting = len(self._q._lines[PLAIN].source.buffer)
            return 0 < self._q._maxsize <= waiting

    def task_done(self) -> None:
        """Settle what this connection got last without a result."""
        q = self._q
        with q._lock:
            peer: Peer = q._here.peer
            if peer.inputs_held:
                _answer(q, peer.inputs_held.popleft(), None)
                return
            if not q._unfinished:
                raise ValueError("task_done() called too many times")
            q._finish(1)

    def join(self) -> None:
        q = self._q
        with q._lock:
            while q._unfinished:
                _wait(q, q._settled, None)


class ResultQueue:
    """The plain face's result queue, with the methods of `queue.Queue`."""

    EXPOSED = TaskQueue.EXPOSED

    def __init__(self, queues: Queues) -> None:
        self._q = queues

    def put(self, item: object, block: bool = True, timeout: float | None = None) -> None:
        """Answer the oldest of the master's inputs that this connection holds; a plain item where
        it holds none."""
        q = self._q
        with q._lock:
            peer: Peer = q._here.peer
            if peer.inputs_held:
                _answer(q, peer.inputs_held.popleft(), item)
                return
            q._results.append(item)
            q._arrived.notify()

    def put_nowait(self, item: object) -> None:
        self.put(item)

    def get(self, block: bool = True, timeout: float | None = None) -> object:
        q = self._q
        deadline = _deadline(q, block, timeout)
        with q._lock:
            peer: Peer = q._here.peer
            while not q._results:
                if not _wait(q, q._arrived, deadline):
                    raise queue.Empty
            item = q._results.popleft()
            peer.result_held.append(item)
        return item

    def get_nowait(self) -> object:
        return self.get(block=False)

    def qsize(self) -> int:
        return len(self._q._results)

    def empty(self) -> bool:
        return not self._q._results

    def full(self) -> bool:
        return False

    def task_done(self) -> None:
        """Nothing keeps count of results."""

    def join(self) -> None:
        """Nothing keeps count of results."""


def _deadline(q: Queues, block: bool, timeout: float | None) -> float | None:
    if not block:
        return q._clock()
    if timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    return None if timeout is None else q._clock() + timeout


def _wait(q: Queues, condition: threading.Condition, deadline: float | None) -> bool:
    """Wait on a condition in slices, for a caller that is still there; False when time is up."""
    left = SLICE if deadline is None else min(SLICE, deadline - q._clock())
    if left <= 0:
        return False
    condition.wait(left)
    if q._stopping or q._here.peer.channel.gone():
        condition.notify()
        raise EOFError
    return True


def _answer(q: Queues, lease: Lease, value: object) -> None:
    """Take a plain client's value as the outcome of one of the master's own inputs."""
    line = q._lines.get(lease.batch.job)
    if line is None:
        return
    seconds = q._clock() - lease.granted
    outcome = encode_value(line, lease, value, seconds)
    report = Report(lease.id, lease.next, (outcome,), busy=seconds)
    q._deliver(q._board.report(lease.holder, report, q._clock()))


def encode_value(line: Line, lease: Lease, value: object, seconds: float) -> Outcome:
    """One value as a worker would have sent it."""
    form = line.spec.output
    try:
        if form == "values":
            return Done(1, inputs.dump([value]), seconds)
        if form == "results":
            return Done(1, pickle.dumps((inputs.dump([value]), [seconds])), seconds)
        item = line.values(lease.batch)
        pair = [(value, seconds)]
        name = lease.holder.name
        return Done(1, outputs.encode(form, lease.next, item, pair, lease.attempt, name), seconds)
    except Exception as error:
        return Failed(Failure(type(error).__name__, str(error)), seconds, retry=False)


class LeaseFace:
    """What dq's own workers and clients use. All arguments and results are built-in types, so
    that any Python and any dq of the same protocol can read them."""

    EXPOSED = ("hello", "exchange", "charge", "ping")

    def __init__(self, queues: Queues) -> None:
        self._q = queues

    def hello(self, protocol: int, info: dict[str, object]) -> dict[str, object]:
        """Say who this connection is; learn whose master this is.

        Args:
            protocol: the caller's `PROTOCOL`.
            info: role ("slot" or "supervisor"), group, name, default (has ``--task``), dq.
        """
        q = self._q
        if protocol != PROTOCOL:
            raise ValueError(
                f"this master speaks dq protocol {PROTOCOL}, the worker {protocol};"
                " install the same dq on both"
            )
        peer: Peer = q._here.peer
        if peer.joined:
            raise ValueError("this connection has said hello before")
        with q._lock:
            peer.holder = Holder(
                peer.holder.id, str(info["group"]), str(info["name"]), info["role"] == "slot"
            )
            peer.has_default = bool(info["default"])
            q._join(peer)
        return {
            "run": q.run,
            "protocol": PROTOCOL,
            "max_message": q.max_message,
            "slots": q.slots,
            "busy": q.busy,
        }

    def ping(self, data: bytes, size: int) -> bytes:
        """Take bytes, give `size` of them back: what ``dq bench`` measures the way with."""
        return bytes(min(_int(size), self._q.max_message - MARGIN))

    def exchange(self, report: Wire | None, most: int, wait: float) -> Wire:
        """Hand in outcomes, get the next batch.

        Args:
            report: see `dq.client`; None where there is nothing to report.
            most: tasks that the batch may have; 0 for no batch, -1 for any number.
            wait: seconds to wait for a batch.

        Returns:
            "go", "idle" or "stop"; the lease or None; its job's spec, the first time, or None.
        """
        q = self._q
        peer: Peer = q._here.peer
        if report is not None:
            try:
                self._take_in(peer, report)
                q.run_sinks()
            except ProtocolError:
                peer.channel.hang_up()  # who lies once is not listened to
                raise
        if not most:
            return ("idle", None, None)
        lease = q._lease(peer, wait, None if most < 0 else most)
        if lease is None:
            return ("stop" if q._stopping else "idle", None, None)
        line = q._lines.get(lease.batch.job)
        if line is None:
            return ("idle", None, None)  # the job was closed meanwhile, and the lease with it
        spec = None
        if lease.batch.job not in peer.specs:
            peer.specs.add(lease.batch.job)
            spec = line.spec.to_wire()
        batch = lease.batch
        granted = (
            lease.id,
            batch.job,
            batch.start,
            batch.count,
            batch.skip,
            batch.blob,
            lease.attempt,
        )
        return ("go", granted, spec)

    def charge(self, run: str, what: str, lease: int, index: int, span: int, detail: str) -> None:
        """Say which task a worker process was in when it "died" or had a "timeout", or that it
        "ended" in none. See `dq.client.Client.charge`."""
        q = self._q
        if run != q.run:
            return
        with q._lock:
            board, now = q._board, q._clock()
            if what == "timeout":
                q._deliver(board.timed_out(lease, index, now))
            elif what == "died":
                q._deliver(board.died(lease, index, detail, now, span=span))
            elif lease in board.leases:
                q._told.add(lease)
            q._changed.notify_all()

    def _take_in(self, peer: Peer, wire: Wire) -> None:
        q = self._q
        run, report, refusal = _read_report(wire)
        if run != q.run:
            return  # outcomes of another run, from before this master started
        with q._lock:
            if refusal:
                q._picky = True
                news = q._board.refuse(peer.holder, report.lease, refusal)
                if news and peer.holder.group != q.own:
                    q._log(refusal)
                q.wake_readers()
            else:
                q._deliver(q._board.report(peer.holder, report, q._clock()))
            q._announce()


def _read_report(wire: Wire) -> tuple[str, Report, str]:
    """From built-in types, which anybody with the key may have made up.

    Raises:
        ProtocolError: it is not what `dq.client` sends.
    """
    try:
        run, lease, first, outcomes, handed_back, busy, refusal = wire
        assert isinstance(outcomes, list | tuple)
        taken = tuple(_outcome(item) for item in outcomes)
        report = Report(_int(lease), _int(first), taken, _int(handed_back), _float(busy))
    except (AssertionError, TypeError, ValueError):
        raise ProtocolError("a report that is none") from None
    return str(run), report, str(refusal)


def _int(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(value)
    return value


def _float(value: object) -> float:
    if type(value) is not float or not value >= 0:
        raise ValueError(value)
    return value


def _outcome(item: Wire) -> Outcome:
    if len(item) == 3:
        count, blob, seconds = item
        if not isinstance(blob, bytes) or not count:
            raise ValueError(item)
        return Done(_int(count), blob, _float(seconds))
    type, message, traceback, seconds, retry = item
    failure = Failure(str(type), str(message), str(traceback))
    return Failed(failure, _float(seconds), bool(retry))


def result_of(line: Line, record: Recorded) -> Iterator[Result[object]]:
    """The results of a record, for a job whose output is "results" or one task that failed."""
    batch, outcome = record.batch, record.outcome
    items = line.values(batch)
    if isinstance(outcome, Failed):
        yield outputs.failed(
            batch.start, items[0], outcome.failure, record.attempts, outcome.seconds, record.worker
        )
        return
    blob, seconds = pickle.loads(outcome.blob)
    for place, (item, value, took) in enumerate(
        zip(items, inputs.load(blob), seconds, strict=True)
    ):
        error = value.failure if isinstance(value, inputs.Bad) else None
        yield Result(
            batch.start + place,
            item,
            None if error else value,
            error,
            record.attempts,
            took,
            record.worker,
        )
