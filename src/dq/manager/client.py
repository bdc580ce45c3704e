"""Clients of a master: typed methods over one connection.

The standard library's proxies keep stale connections after a master's restart, and take the answer
of an interrupted call for the next call's. A client here closes its connection on any interruption.
"""

from __future__ import annotations

import pickle
import random

from dq._support.frozen import cast
from dq.core.beats import WorkerState
from dq.core.blobs import Blob, LargeBlob
from dq.core.records import Loads
from dq.errors import ConnectError, PlainMaster, ProtocolError, Unreadable
from dq.functions.spec import JobSpec
from dq.manager.messages import (
    BeatWire,
    ExchangeWire,
    LargeWire,
    LeaseMessage,
    ReportMessage,
    large_blob,
)
from dq.manager.protocol import LEASES, PROTOCOL
from dq.security.tls import PLAIN, Tls
from dq.transport import dialing
from dq.transport.addresses import Address, show
from dq.transport.channel import Channel
from dq.transport.limits import KEEPALIVE_S

_Answer = tuple[str, object]  # kind and result, as the manager protocol has it
_jitter = random.SystemRandom()


class ServerConnection:
    """Method calls on the objects of a manager server, over one connection.

    Args:
        address: the server's.
        authkey: the shared key.
        name: the name of this connection's thread in the server.
        tls: how it is encrypted.
        loads: unpickles answers.

    Raises:
        ConnectError: nobody listens there, or the wrong key.
    """

    def __init__(
        self,
        address: Address,
        authkey: bytes,
        name: str = "dq",
        tls: Tls = PLAIN,
        loads: Loads = pickle.loads,
    ) -> None:
        self.channel: Channel = dialing.connect(address, authkey, tls=tls)
        # Whole messages are read before they are unpickled, so the next call is not affected.
        self.channel.loads = lambda message: _loaded(message, loads)
        self.sent = False  # whether a call was sent and its answer has not arrived
        self.call(None, "accept_connection", name)

    def close(self) -> None:
        self.channel.close()

    def call(self, ident: str | None, method: str, *args: object) -> object:
        """Call a method and wait for its answer. Any failure to do so closes the connection.

        Raises:
            ConnectError: the connection was lost.
            ProtocolError: the server refused the call; the message is its own.
            Unreadable: the answer cannot be unpickled. The connection can still be used.
            Exception: what the method raised there.
        """
        self.post(ident, method, *args)
        return self.answer()

    def post(self, ident: str | None, method: str, *args: object) -> None:
        """Send a call, whose `answer` has to be received next."""
        message = pickle.dumps((ident, method, args, {}))
        try:
            self.channel.send_bytes(message)
            self.sent = True
        except OSError as error:
            self.close()
            raise _lost(error) from None
        except BaseException:
            self.close()
            raise

    def await_answer(self, timeout: float) -> bool:
        """Wait for the answer so many seconds. Returns whether there is one, or the connection has
        ended."""
        try:
            return self.channel.poll(timeout)
        except (OSError, ValueError) as error:  # ValueError if it has been closed
            self.close()
            raise _lost(error) from None

    def answer(self) -> object:
        """Receive the answer; errors as for `call`."""
        try:
            kind, result = cast("_Answer", self.channel.recv())
            self.sent = False
        except (OSError, EOFError) as error:
            self.close()
            raise _lost(error) from None
        except BaseException:
            self.close()
            raise
        if kind == "#RETURN":
            return result
        if isinstance(result, BaseException):
            if kind == _UNREADABLE:
                raise Unreadable(f"an answer that cannot be unpickled: {result}") from result
            if kind == "#ERROR":
                raise result
        raise ProtocolError(str(result))


def _lost(error: Exception) -> ConnectError:
    return ConnectError(f"lost the master: {str(error) or 'connection closed'}")


_UNREADABLE = "#UNREADABLE"


def _loaded(message: bytes | bytearray, loads: Loads) -> object:
    try:
        return loads(message)
    except Exception as error:
        return _UNREADABLE, error


class Client(ServerConnection):
    """Calls the methods of a dq master's endpoint for workers.

    Args:
        role: "slot", "supervisor", "beat" for the second connection of a supervisor, or "bench" for
            one that only measures.
        group: random name of the supervisor that it belongs to.
        name: ``host:pid``.
        tls: how the connection is encrypted.
        default: whether it has a function of its own for the items of plain clients.
        slots: how many tasks a supervisor's processes work on at a time.
        versions: a supervisor's, of dq and of Python.
        loads: unpickles answers.

    Raises:
        PlainMaster: the server is a plain `BaseManager`.
        ProtocolError: it is a dq of another protocol; the message says which.
    """

    def __init__(
        self,
        address: Address,
        authkey: bytes,
        *,
        role: str,
        group: str,
        name: str,
        tls: Tls = PLAIN,
        default: bool = False,
        slots: int = 0,
        versions: tuple[str, str] = ("", ""),
        tags: tuple[str, ...] = (),
        loads: Loads = pickle.loads,
    ) -> None:
        super().__init__(address, authkey, name, tls, loads)
        info = {
            "role": role,
            "group": group,
            "name": name,
            "default": default,
            "slots": slots,
            "dq": versions[0],
            "python": versions[1],
            "tags": tags,
        }
        try:
            answer = self.call(LEASES, "hello", PROTOCOL, info)
        except ProtocolError as error:
            self.close()
            if "KeyError" in str(error):
                raise PlainMaster(f"{show(address)} is a plain BaseManager") from None
            raise
        except ValueError as error:
            self.close()
            raise ProtocolError(str(error)) from None
        assert isinstance(answer, dict)
        self.channel.peer_sends_at_once()
        self.run: str = answer["run"]
        self.max_message: int = answer["max_message"]
        self.hash_seed: int = answer["hash_seed"]  # of all task processes of the run
        self.channel.keep_alive(answer.get("keepalive", KEEPALIVE_S))
        self.ended: list[str] = []  # ids of jobs that had ended, from the last news
        self.definitions: list[tuple[tuple[str, ...], bytes]] = []  # from the last news
        self.slots: int = answer.get("slots", 0)  # of other workers, when this one connected
        self.busy: int = answer.get("busy", 0)  # leases that they had then
        self.lacks_task: bool = answer.get("lacks_task", False)  # as `beat` returns it

    def exchange(
        self, outcomes: ReportMessage | None, most: int, wait: float
    ) -> tuple[str, LeaseMessage | None, JobSpec | None]:
        """Report outcomes, and get the next batch.

        Args:
            outcomes: of one lease; None if there are none.
            most: how many tasks the batch may have; 0 for no batch, -1 for any number.
            wait: seconds to wait for a batch.

        Returns:
            "go", "idle" or "stop" (the master has finished); a lease; its job, the first time.
        """
        report = None
        if outcomes is not None:
            report = outcomes.to_wire()
            self.channel.attach(outcomes.buffers)
        answer = self.call(LEASES, "exchange", report, most, wait)
        state, lease, news = cast(ExchangeWire, answer)
        spec = None
        if news is not None:
            spec = None if news[0] is None else JobSpec.from_wire(news[0])
            self.ended, self.definitions = news[1:]
        attached = self.channel.take_attachment()
        return state, LeaseMessage.from_wire(lease, attached) if lease else None, spec

    def functions(self, job: str) -> LargeBlob:
        """A job's functions by value with large buffers.

        Raises:
            ConnectError: the job has ended.
        """
        wire = cast(LargeWire | None, self.call(LEASES, "functions", job))
        if wire is None:
            self.close()
            raise ConnectError("the job has ended")
        return large_blob(wire, self.channel.take_attachment())

    def called(self, job: str, digest: bytes) -> Blob | None:
        """A function by value of a job's calls; None if no call needs it any more."""
        wire = cast("bytes | LargeWire | None", self.call(LEASES, "called", job, digest))
        if wire is None or isinstance(wire, bytes):
            return wire
        return large_blob(wire, self.channel.take_attachment())

    def post_beat(self, state: WorkerState, seen: int, wait: float) -> None:
        """Say what a worker does. `beat_answer` has to be called next.

        Args:
            state: what it does.
            seen: the number of the last command that it has got; 0 at first.
            wait: seconds to wait for a command.
        """
        self.post(LEASES, "beat", state.to_wire(), seen, wait)

    def beat_answer(self) -> BeatWire:
        """Get the next commands for a worker.

        Returns:
            The commands; seconds until the master wants to hear of this worker again; whether there
            are tasks for which neither the master nor this worker has a function; whether somebody
            wants what tasks print.
        """
        return cast(BeatWire, self.answer())

    def send(self, size: int) -> None:
        """Send `size` bytes, to measure the link."""
        self.call(LEASES, "ping", bytes(size), 0)

    def fetch(self, size: int) -> None:
        """Receive `size` bytes, to measure the link."""
        self.call(LEASES, "ping", b"", size)

    def differ(self, file: str, digest: str, job: str) -> None:
        """Report that this process has loaded another version of a file than the run began with."""
        self.call(LEASES, "differ", self.run, file, digest, job)

    def charge(self, run: str, what: str, lease: int, index: int, span: int, detail: str) -> None:
        """Report which task a process was in when it "died" or had a "timeout", that it died
        "loading" a function, is killed since that is "unloadable", is ended because of a
        "cancelled" task, or at last that it has "ended".

        Args:
            run: the master's random id.
            what: one of the six.
            lease: which batch.
            index: which task of it.
            span: how many tasks, from that one on, it may have been in.
            detail: how it died; its name if it has "ended".
        """
        self.call(LEASES, "charge", run, what, lease, index, span, detail)


class PlainClient:
    """The two queues of a plain recipe master.

    It never releases its references, so that a client that leaves cannot drop the queues. (In
    CPython, `create` and `decref` race for the last reference.)
    """

    def __init__(
        self,
        address: Address,
        authkey: bytes,
        tls: Tls = PLAIN,
        loads: Loads = pickle.loads,
    ) -> None:
        self._tasks = _create(address, authkey, "get_task_queue", tls, loads)
        self._results = _create(address, authkey, "get_result_queue", tls, loads)
        self._connection = ServerConnection(address, authkey, tls=tls, loads=loads)

    def close(self) -> None:
        self._connection.close()

    def get(self, timeout: float) -> object:
        """The next task.

        Raises:
            queue.Empty: there was none in `timeout` seconds.
            Unreadable: there was one, which is lost because it cannot be unpickled.
        """
        return self._connection.call(self._tasks, "get", True, timeout)

    def qsize(self) -> int:
        """How many tasks wait."""
        return cast("int", self._connection.call(self._tasks, "qsize"))

    def put(self, value: object) -> None:
        """Put a result."""
        self._connection.call(self._results, "put", value)


def _create(address: Address, authkey: bytes, typeid: str, tls: Tls, loads: Loads) -> str:
    with dialing.connect(address, authkey, tls=tls) as channel:
        channel.loads = loads
        channel.send((None, "create", (typeid,), {}))
        kind, result = cast("_Answer", channel.recv())
    if kind != "#RETURN":
        raise ProtocolError(f"{show(address)} serves no {typeid}")
    ident, _ = cast("tuple[str, tuple[str, ...]]", result)
    return ident


def backoff(attempt: int, jitter: float | None = None) -> float:
    """Seconds before the next attempt to connect: exponential with full jitter, up to 1. So a
    restarted master has its workers within 2 seconds, including the start of a process.

    >>> backoff(0, 1.0), backoff(3, 0.5), backoff(99, 1.0)
    (0.05, 0.2, 1.0)
    >>> 0.0 <= backoff(3) < 0.4
    True
    """
    # Not `random.random()`: a program that seeds that one counts on what comes next.
    share = _jitter.random() if jitter is None else jitter
    return min(0.05 * 2.0 ** min(attempt, 10), 1.0) * share
