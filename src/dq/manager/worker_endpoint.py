"""The object that dq's own workers call: it leases batches and receives reports."""

from __future__ import annotations

from dq._support.tags import MOST_TAGS
from dq.core.leases import Lease, LeaseHolder
from dq.core.records import LONGEST_NAME, LONGEST_TEXT, printable
from dq.dispatch.connections import Connection
from dq.dispatch.dispatcher import Dispatcher
from dq.dispatch.pending_requests import WorkerRequest
from dq.dispatch.served_job import ServedJob
from dq.dispatch.worker_requests import SEND_AT_ONCE_BYTES
from dq.errors import ProtocolError
from dq.manager.message_checks import (
    MOST_SLOTS,
    as_count,
    as_seconds,
    as_text,
    read_beat,
    read_report,
)
from dq.manager.messages import BeatWire, LeaseMessage, Wire, blob_to_wire, buffers_of
from dq.manager.protocol import PROTOCOL

LARGEST_PING = 1 << 30  # bytes
LONGEST_WAIT_S = 60.0  # of a beat for a command
ANSWERED: Wire = ("answered",)  # if the answer has been sent already


class WorkerEndpoint:
    """Methods for dq's own workers and clients. All arguments and results are built-in types, so
    any Python and any dq of the same protocol can read them."""

    EXPOSED = ("hello", "exchange", "functions", "called", "charge", "differ", "beat", "ping")

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._q = dispatcher

    def hello(self, protocol: int, info: dict[str, object]) -> dict[str, object]:
        """Introduce this connection, and get the facts about the master.

        Args:
            protocol: the caller's `PROTOCOL`.
            info: role ("slot", "supervisor", "beat" or "bench"), group, name, default (has
                ``--task``), tags, and of a supervisor: slots, dq and python (versions).
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
        if connection.joined or connection.mailbox is not None:
            raise ValueError("this connection has said hello before")
        slots = as_count(info.get("slots", 0))
        versions = [as_text(info.get(name, ""))[:LONGEST_NAME] for name in ("dq", "python")]
        tags = _tags(info.get("tags", ()))
        with q.lock:
            connection.holder = LeaseHolder(
                id=connection.holder.id,
                group=as_text(info["group"])[:LONGEST_NAME],
                name=as_text(info["name"])[:LONGEST_NAME],
                is_slot=info["role"] == "slot",
                tags=tags,
            )
            connection.has_default = bool(info["default"])
            connection.channel.peer_sends_at_once()
            q.commands.join(connection.holder)
            if info["role"] == "beat":
                self._open_mailbox(connection)
            else:
                q.connections.join(connection)
                q.presence.add_connection(connection.holder)
            if info["role"] == "supervisor":
                q.presence.add_supervisor(connection, min(slots, MOST_SLOTS), *versions)
        if info["role"] == "supervisor":
            q.presence.on_notes()
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

    def _open_mailbox(self, connection: Connection) -> None:
        """Make a connection the one on which its worker gets commands."""
        group = connection.holder.group
        if not self._q.death_reports.has_supervisor(group):
            raise ValueError("beats of a worker that is not here")
        connection.mailbox = self._q.commands.open(group)

    def beat(self, state: Wire, seen: int, wait: float) -> BeatWire:
        """Receive what a supervisor says of its worker, and answer once there is a command for it,
        or after `wait` seconds. See `dq.manager.client.Client.post_beat`."""
        q, connection = self._q, self._q.connections.current
        mailbox = connection.mailbox
        if mailbox is None:
            raise ProtocolError("a beat on a connection that is not for it")
        if mailbox.is_closed:
            raise ProtocolError("another connection gets the commands now")
        message, wait = read_beat(state), min(as_seconds(wait), LONGEST_WAIT_S)
        with q.lock:
            q.presence.heartbeat(connection.holder.group, message)
            q.stacks.take(connection.holder.group, message)
            lacks_task = q.presence.lacks_task(connection)
        q.output.take(connection.holder.name, message)  # without the lock: it may print
        commands = q.commands.wait(mailbox, as_count(seen), wait)
        told = [command.to_wire() for command in commands]
        return told, q.commands.interval, lacks_task, q.output.is_wanted

    def ping(self, data: bytes, size: int) -> bytes | Wire:
        """Receive bytes and return `size` bytes, so that ``dq bench`` can measure the link."""
        size = min(as_count(size), self._q.max_message, LARGEST_PING)
        if size <= SEND_AT_ONCE_BYTES:
            return bytes(size)
        self._q.connections.current.channel.send_zeros(size)
        return ANSWERED

    def exchange(self, report: Wire | None, most: int, wait: float) -> Wire:
        """Report outcomes, and get the next batch.

        Args:
            report: a `ReportMessage` as built-in types; None if there is nothing to report.
            most: how many tasks the batch may have; 0 for no batch, -1 for any number.
            wait: seconds to wait for a batch.

        Returns:
            "go", "idle" or "stop"; the lease or None; news or None. News has the spec of a job at
            its first lease, and the jobs that have ended since.
        """
        q = self._q
        connection = q.connections.current
        if type(most) is not int or type(wait) not in (int, float) or wait != wait:
            raise ProtocolError("an exchange that is none")  # fewer than one task is no batch
        request = WorkerRequest(
            connection,
            None if most < 0 else most,
            q.clock() + wait,
            lambda lease: self._send(connection, lease),
        )
        try:
            if report is not None:
                self._take_in(connection, report)
                q.delivery.run_sinks()  # first, since they may wait for other tasks
            if not most:
                return ("idle", None, None)
            q.requests.answer(request)
        except ProtocolError:
            connection.channel.shutdown()  # a client that sends a false report is disconnected
            raise
        finally:
            # After the worker has its next batch, since both need the GIL.
            q.delivery.notify_readers()
        if connection.channel.is_encrypted:
            q.requests.await_answer(request)
        return ANSWERED

    def _send(self, connection: Connection, lease: Lease | None) -> None:
        """Answer an exchange, in whichever thread has something for the worker."""
        if lease is None:
            answer: Wire = ("stop" if self._q.stopping else "idle", None, None)
            connection.channel.send(("#RETURN", answer))
            return
        served = self._q.served_jobs.get(lease.batch.job)
        if served is None:  # the job and its leases have been closed in the meantime
            connection.channel.send(("#RETURN", ("idle", None, None)))
            return
        connection.channel.send(("#RETURN", self._granted(connection, served, lease)))
        if served.on_sent is not None:
            served.on_sent(lease.batch)

    def _granted(self, connection: Connection, served: ServedJob, lease: Lease) -> Wire:
        job = lease.batch.job
        news = None
        if connection.specs.get(job) != len(served.definitions):
            news = self._news(connection, served)
        message = LeaseMessage.of(lease)
        connection.channel.attach(message.buffers)
        return ("go", message.to_wire(), news)

    def functions(self, job: str) -> object:
        """A job's functions by value with large buffers, once for each process; None if the job has
        ended."""
        served = self._q.served_jobs.get(as_text(job))
        blob = None if served is None else served.spec.functions
        if blob is None:
            return None
        self._q.connections.current.channel.attach(blob.buffers)
        return blob_to_wire(blob)

    def called(self, job: str, digest: bytes) -> object:
        """A function by value of a job's calls; None if no call needs it any more."""
        served = self._q.served_jobs.get(as_text(job))
        blob = None if served is None or type(digest) is not bytes else served.called.get(digest)
        if blob is None:
            return None
        self._q.connections.current.channel.attach(buffers_of(blob))
        return blob_to_wire(blob)

    def differ(self, run: str, file: str, digest: str, job: str = "") -> None:
        """Note that this connection's process has loaded another version of a file for a job."""
        q = self._q
        if run != q.run:
            return
        holder = q.connections.current.holder
        file, digest = as_text(file)[:LONGEST_NAME], as_text(digest)[:LONGEST_NAME]
        warning = q.other_versions.warning(holder, file, digest)
        if warning is not None:
            q.notify(warning)
        if q.other_versions.on_other is not None:
            q.other_versions.on_other(as_text(job), holder.name, file, digest)

    def _news(self, connection: Connection, served: ServedJob) -> Wire:
        """What is new to a connection: a job's spec and definitions, and which jobs have ended."""
        job = served.spec.id
        known = connection.specs.get(job)
        ended = [id for id in connection.specs if id not in self._q.served_jobs]
        for id in ended:
            del connection.specs[id]
        definitions = served.definitions.after(known or 0)
        connection.specs[job] = (known or 0) + len(definitions)
        return (served.spec.to_wire() if known is None else None, ended, definitions)

    def charge(self, run: str, what: str, lease: int, index: int, span: int, detail: str) -> None:
        """Note what has become of a worker process, and which task it was in. See
        `dq.manager.client.Client.charge`."""
        q = self._q
        if run != q.run:
            return
        lease, index, span = as_count(lease), as_count(index), as_count(span)
        detail = as_text(detail)[:LONGEST_TEXT]
        group = q.connections.current.holder.group
        if what in ("loading", "unloadable"):
            again = what == "loading"
            if reason := q.rejections.died_loading(group, lease, detail, again=again):
                q.notify(printable(reason))
            return
        q.death_reports.take(group, what, lease, index, span, detail)

    def _take_in(self, connection: Connection, wire: Wire) -> None:
        q = self._q
        run, report, refusal = read_report(wire, connection.channel.take_attachment())
        if run != q.run:
            return  # it is for an earlier master's run
        holder = connection.holder
        if not refusal:
            with q.lock:
                recorded = q.board.report(holder, report, q.clock())
                q.delivery.deliver(recorded, notify=False)
        elif not holder.group:
            raise ProtocolError("a refusal for all who have not said who they are")
        elif q.rejections.reject(holder, report.lease, refusal):
            q.notify(printable(refusal))


def _tags(given: object) -> frozenset[str]:
    """The tags of a worker."""
    if not isinstance(given, (tuple, list)) or len(given) > MOST_TAGS:
        raise ProtocolError("tags that are none")
    return frozenset(as_text(tag)[:LONGEST_NAME] for tag in given)
