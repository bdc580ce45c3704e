"""What is served: the two queues of the recipe, and the face of dq's own workers.

Views on `Dispatcher`, which has the lock and the board; nothing here keeps anything.
"""

from __future__ import annotations

import queue
import threading

from dq._support.quantities import MOST_PROCESSES, MOST_THREADS
from dq.core.leases import Lease, LeaseHolder, Report
from dq.core.records import LONGEST_NAME, LONGEST_TEXT, Done, Failed, Failure, Outcome, printable
from dq.data.batches import BadValue
from dq.dispatch.connections import Connection
from dq.dispatch.dispatcher import Dispatcher
from dq.dispatch.leasing import LIVENESS_CHECK_S, SEND_AT_ONCE_BYTES, Answered
from dq.dispatch.plain_queue import Unfinished
from dq.dispatch.served_job import PLAIN, ServedJob
from dq.errors import ProtocolError
from dq.manager.protocol import PROTOCOL

Wire = tuple[object, ...]
LARGEST_PING = 1 << 30  # bytes
MOST_SLOTS = MOST_PROCESSES * MOST_THREADS  # of a supervisor
ANSWERED: Wire = ("answered",)  # in place of an answer that has been sent already


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

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._q = dispatcher

    def put(self, item: object, block: bool = True, timeout: float | None = None) -> None:
        q = self._q
        served = q.served_jobs[PLAIN]
        deadline = _deadline(q, block, timeout)
        with q.lock:
            while q.plain.maxsize and len(served.source.buffer) >= q.plain.maxsize:
                if not _wait(q, q.plain.room, deadline):
                    raise queue.Full
            served.source.buffer.append(item)
            q.plain.unfinished_tasks.add(1)
            q.board.supply(PLAIN, 1)
        q.leasing.hand_out()

    def put_nowait(self, item: object) -> None:
        self.put(item, block=False)

    def get(self, block: bool = True, timeout: float | None = None) -> object:
        q = self._q
        connection = q.connections.current
        if not connection.gets_tasks:
            q.presence.enlist_plain(connection)
        deadline = _deadline(q, block, timeout)
        while True:
            lease = q.leasing.lease(
                connection, None if deadline is None else deadline - q.clock(), most=1
            )
            if lease is None:
                raise EOFError if q.stopping else queue.Empty
            served = q.served_jobs.get(lease.batch.job)
            if served is None:
                continue  # its job was closed meanwhile
            [value] = served.values(lease.batch)
            if not isinstance(value, BadValue):
                break
            q.plain_answers.fail(lease, value.failure)  # a line that is no JSON, say
        if lease.batch.job != PLAIN:
            connection.inputs_held.append(lease)
        elif q.plain.redeliver:
            connection.items_held.append(lease)
        else:
            with q.lock:
                q.board.ack(lease.id)
        return value

    def get_nowait(self) -> object:
        return self.get(block=False)

    def qsize(self) -> int:
        """How many items wait, those that came back included."""
        with self._q.lock:
            return sum(job.unbatched + job.waiting.count for job in self._q.board.jobs.values())

    def empty(self) -> bool:
        return not self.qsize()

    def full(self) -> bool:
        with self._q.lock:
            waiting = len(self._q.served_jobs[PLAIN].source.buffer)
            return 0 < self._q.plain.maxsize <= waiting

    def task_done(self) -> None:
        """Settle what this connection got last without a result."""
        q = self._q
        with q.lock:
            connection = q.connections.current
            if connection.inputs_held:
                q.plain_answers.answer(connection.inputs_held.popleft(), None)
                return
            _done(q.plain.unfinished_tasks)

    def join(self) -> None:
        """Wait until all that was put is done: by a worker of dq's, or as `task_done()` says."""
        _join(self._q, self._q.plain.unfinished_tasks)


class ResultQueue:
    """The plain face's result queue, with the methods of `queue.Queue`."""

    EXPOSED = TaskQueue.EXPOSED

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._q = dispatcher

    def put(self, item: object, block: bool = True, timeout: float | None = None) -> None:
        """Answer the oldest of the master's inputs that this connection holds; a plain item where
        it holds none."""
        q = self._q
        with q.lock:
            connection = q.connections.current
            if connection.inputs_held:
                q.plain_answers.answer(connection.inputs_held.popleft(), item)
                return
            q.plain.put_results([item])

    def put_nowait(self, item: object) -> None:
        self.put(item)

    def get(self, block: bool = True, timeout: float | None = None) -> object:
        q = self._q
        deadline = _deadline(q, block, timeout)
        with q.lock:
            connection = q.connections.current
            while not q.plain.results:
                if not _wait(q, q.plain.arrived, deadline):
                    raise queue.Empty
            item = q.plain.results.popleft()
            connection.result_held.append(item)
        return item

    def get_nowait(self) -> object:
        return self.get(block=False)

    def qsize(self) -> int:
        return len(self._q.plain.results)

    def empty(self) -> bool:
        return not self._q.plain.results

    def full(self) -> bool:
        """Never: `maxsize` is the task queue's."""
        return False

    def task_done(self) -> None:
        """Say that what somebody got from it has been dealt with."""
        with self._q.lock:
            _done(self._q.plain.unfinished_results)

    def join(self) -> None:
        """Wait until `task_done()` has been called for each result."""
        _join(self._q, self._q.plain.unfinished_results)


def _deadline(q: Dispatcher, block: bool, timeout: float | None) -> float | None:
    if not block:
        return q.clock()
    if timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    return None if timeout is None else q.clock() + timeout


def _wait(q: Dispatcher, condition: threading.Condition, deadline: float | None) -> bool:
    """Wait on a condition in slices, for a caller that is still there; False when time is up."""
    left = LIVENESS_CHECK_S if deadline is None else min(LIVENESS_CHECK_S, deadline - q.clock())
    if left <= 0:
        return False
    condition.wait(left)
    if q.stopping or q.connections.current.channel.peer_closed():
        condition.notify()
        raise EOFError
    return True


def _done(unfinished: Unfinished) -> None:
    if not unfinished.count:
        raise ValueError("task_done() called too many times")
    unfinished.done(1)


def _join(q: Dispatcher, unfinished: Unfinished) -> None:
    with q.lock:
        while unfinished.count:
            _wait(q, unfinished.none_left, None)


class WorkerEndpoint:
    """What dq's own workers and clients use. All arguments and results are built-in types, so
    that any Python and any dq of the same protocol can read them."""

    EXPOSED = ("hello", "exchange", "charge", "differ", "beat", "ping")

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._q = dispatcher

    def hello(self, protocol: int, info: dict[str, object]) -> dict[str, object]:
        """Say who this connection is; learn whose master this is.

        Args:
            protocol: the caller's `PROTOCOL`.
            info: role ("slot", "supervisor" or "bench"), group, name, default (has ``--task``),
                slots (of a supervisor).
        """
        q = self._q
        if type(protocol) is not int or type(info) is not dict:
            raise ProtocolError("a hello that is none")
        if protocol != PROTOCOL:
            raise ValueError(
                f"this master speaks dq protocol {PROTOCOL}, the worker {protocol};"
                " install the same dq on both"
            )
        connection = q.connections.current
        if connection.joined:
            raise ValueError("this connection has said hello before")
        slots = _int(info.get("slots", 0))
        with q.lock:
            connection.holder = LeaseHolder(
                connection.holder.id,
                _str(info["group"])[:LONGEST_NAME],
                _str(info["name"])[:LONGEST_NAME],
                info["role"] == "slot",
            )
            connection.has_default = bool(info["default"])
            connection.channel.peer_sends_at_once()
            q.connections.join(connection)
            q.presence.meet(connection.holder)
            if info["role"] == "supervisor":
                q.presence.enlist(connection, min(slots, MOST_SLOTS))
        if info["role"] == "supervisor":
            q.presence.on_news()
        return {
            "run": q.run,
            "protocol": PROTOCOL,
            "max_message": q.max_message,
            "hash_seed": q.hash_seed,
            "keepalive": q.keepalive,
            "slots": q.slots,
            "busy": q.busy,
            "lacks_task": q.presence.lacks_task(connection),
        }

    def beat(self, stopped: list[str]) -> bool:
        """Hear that a supervisor is there, and which of its processes are stopped. See
        `dq.manager.client.Client.beat`."""
        q = self._q
        if type(stopped) is not list or len(stopped) > MOST_SLOTS:
            raise ProtocolError("a beat that is none")
        names = [_str(name)[:LONGEST_NAME] for name in stopped]
        with q.lock:
            q.presence.hear(q.connections.current, names)
            return q.presence.lacks_task(q.connections.current)

    def ping(self, data: bytes, size: int) -> bytes | Wire:
        """Take bytes, give `size` of them back: what ``dq bench`` measures the way with."""
        size = min(_int(size), self._q.max_message, LARGEST_PING)
        if size <= SEND_AT_ONCE_BYTES:
            return bytes(size)
        self._q.connections.current.channel.send_zeros(size)
        return ANSWERED

    def exchange(self, report: Wire | None, most: int, wait: float) -> Wire:
        """Hand in outcomes, get the next batch.

        Args:
            report: see `dq.manager.client`; None where there is nothing to report.
            most: tasks that the batch may have; 0 for no batch, -1 for any number.
            wait: seconds to wait for a batch.

        Returns:
            "go", "idle" or "stop"; the lease or None; the first time its job's spec, and which
            earlier jobs have ended meanwhile, or None.
        """
        q = self._q
        connection = q.connections.current
        if type(most) is not int or type(wait) not in (int, float) or wait != wait:
            raise ProtocolError("an exchange that is none")  # half a task would be lost
        if report is not None:
            try:
                self._take_in(connection, report)
                q.delivery.run_sinks()
            except ProtocolError:
                connection.channel.shutdown()  # who lies once is not listened to
                raise
        if not most:
            return ("idle", None, None)
        try:
            lease = q.leasing.lease(
                connection,
                wait,
                None if most < 0 else most,
                lambda lease: connection.channel.send(
                    ("#RETURN", self._granted(connection, lease))
                ),
            )
        except Answered:
            return ANSWERED
        if lease is None:
            return ("stop" if q.stopping else "idle", None, None)
        return self._granted(connection, lease)

    def _granted(self, connection: Connection, lease: Lease) -> Wire:
        served = self._q.served_jobs.get(lease.batch.job)
        if served is None:
            return ("idle", None, None)  # the job was closed meanwhile, and the lease with it
        job = lease.batch.job
        news = None
        if connection.specs.get(job) != len(served.definitions):
            news = self._news(connection, served)
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
        return ("go", granted, news)

    def differ(self, run: str, file: str, digest: str) -> None:
        """Say that this connection's process has loaded another file than the run began with."""
        q = self._q
        if run != q.run:
            return
        holder = q.connections.current.holder
        warning = q.other_versions.warning(
            holder, _str(file)[:LONGEST_NAME], _str(digest)[:LONGEST_NAME]
        )
        if warning is not None:
            q.notify(warning)

    def _news(self, connection: Connection, served: ServedJob) -> Wire:
        """What a connection has not heard yet of a job, and of those that have ended."""
        job = served.spec.id
        known = connection.specs.get(job)
        ended = [id for id in connection.specs if id not in self._q.served_jobs]
        for id in ended:
            del connection.specs[id]
        definitions = served.definitions[known or 0 :]
        connection.specs[job] = (known or 0) + len(definitions)
        return (served.spec.to_wire() if known is None else None, ended, definitions)

    def charge(self, run: str, what: str, lease: int, index: int, span: int, detail: str) -> None:
        """Say which task a worker process was in when it "died" or had a "timeout", or that it
        "ended" in none. See `dq.manager.client.Client.charge`."""
        q = self._q
        if run != q.run:
            return
        lease, index, span = _int(lease), _int(index), _int(span)
        detail = _str(detail)[:LONGEST_TEXT]
        q.death_reports.take(what, lease, index, span, detail)

    def _take_in(self, connection: Connection, wire: Wire) -> None:
        q = self._q
        run, report, refusal = _read_report(wire)
        if run != q.run:
            return  # outcomes of another run, from before this master started
        holder = connection.holder
        if not refusal:
            with q.lock:
                q.delivery.deliver(q.board.report(holder, report, q.clock()))
        elif not holder.group:
            raise ProtocolError("a refusal for all who have not said who they are")
        elif q.rejections.reject(holder, report.lease, refusal):
            q.notify(printable(refusal))


def _read_report(wire: Wire) -> tuple[str, Report, str]:
    """From built-in types, which anybody with the key may have made up.

    Raises:
        ProtocolError: it is not what `dq.manager.client` sends.
    """
    try:
        run, lease, first, outcomes, handed_back, busy, refusal = wire
        if type(outcomes) is not list:
            raise TypeError("not a list of outcomes")
        taken = tuple(_outcome(item) for item in outcomes)
        outcomes.clear()  # which the call has until it returns, with the next batch perhaps
        report = Report(_int(lease), _int(first), taken, _int(handed_back), _float(busy))
        run, refusal = _str(run), _str(refusal)[:LONGEST_TEXT]
    except (TypeError, ValueError):
        raise ProtocolError("a report that is none") from None
    return run, report, refusal


def _int(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("not a count")  # and no word on what it is, which may be endless
    return value


def _float(value: object) -> float:
    if type(value) is not float or not 0 <= value < float("inf"):
        raise ValueError("not a time")
    return value


def _str(value: object) -> str:
    if type(value) is not str:
        raise ValueError("not a text")
    return value


def _outcome(item: Wire) -> Outcome:
    if len(item) == 3:
        count, blob, seconds = item
        if not isinstance(blob, bytes) or not count:
            raise ValueError("not an outcome")
        return Done(_int(count), blob, _float(seconds))
    type, message, traceback, seconds, retry = item
    failure = Failure(_str(type), _str(message), _str(traceback))
    return Failed(failure, _float(seconds), bool(retry))
