"""QueueManager and its server: the standard library's, with the faults of §7 of its design taken
out. Nothing here decides anything; what is served is in `dq.manager.endpoints`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import multiprocessing.managers as mpm
import multiprocessing.process
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection
from multiprocessing import AuthenticationError
from multiprocessing.managers import BaseManager, BaseProxy
from typing import TYPE_CHECKING, Any, Protocol, cast

from dq._support.naming import setting
from dq.core.records import Loads
from dq.dispatch.dispatcher import Dispatcher
from dq.errors import BadKey, TlsError
from dq.manager.endpoints import ANSWERED, ResultQueue, TaskQueue, WorkerEndpoint
from dq.manager.protocol import LEASES
from dq.manager.server_options import ServerOptions
from dq.security import tls
from dq.security.pickle_rules import Refused
from dq.security.safe_pickle import safe_loads
from dq.security.tls import PLAIN, Tls
from dq.transport import dialing, handshake, limits
from dq.transport.addresses import Address
from dq.transport.channel import Channel
from dq.transport.dialing import SERIALIZER
from dq.transport.handshake import TLS_HELLO_BYTE
from dq.transport.listener import Listener
from dq.transport.reading import MessageTooLarge

if TYPE_CHECKING:
    import ssl  # which plain connections do without

ANSWERS = 1.0  # seconds for the answers to what is under way when a server closes
# Seconds that a thread keeps the interpreter before others may ask for it, by the square of the
# connections, from a thousand on. Where ten thousand leave at once, their threads would otherwise
# take minutes to ask, each 200 times a second: so they do in one or two seconds.
TURN = 5e-9
SHUTDOWN = 5.0  # seconds for a server's process to end by itself
MOST_STRANGERS = 64  # connections that have not authenticated
PATIENT = 0.25  # seconds that a newer one waits for a place before it ends the oldest
CALM = 1.0  # seconds without such an end after which one is waited for again
FIRST_WORD = 1.0  # seconds that a client has to begin with TLS where nothing else is taken
SAID_AGAIN = 10.0  # seconds after which the same is said again
TASK_QUEUE, RESULT_QUEUE = "get_task_queue", "get_result_queue"

log = logging.getLogger("dq")

# The standard library has no other way to bring a listener of one's own.
mpm.listener_client[SERIALIZER] = (  # type: ignore[attr-defined]  # undocumented
    Listener,
    dialing.dial,
)

_Request = tuple[str, str, tuple[object, ...], dict[str, object]]  # ident, method, arguments
_Served = tuple[object, Collection[str], dict[str, str] | None]  # methods, typeids of their results


class QueueProxy(BaseProxy):
    """What a client gets from `get_task_queue()` and `get_result_queue()`."""

    _exposed_ = TaskQueue.EXPOSED

    def put(self, item: object, block: bool = True, timeout: float | None = None) -> None:
        self._callmethod("put", (item, block, timeout))

    def put_nowait(self, item: object) -> None:
        self._callmethod("put_nowait", (item,))

    def get(self, block: bool = True, timeout: float | None = None) -> object:
        return self._call("get", block, timeout)

    def get_nowait(self) -> object:
        return self._call("get_nowait")

    def qsize(self) -> int:
        return cast(int, self._call("qsize"))

    def empty(self) -> bool:
        return cast(bool, self._call("empty"))

    def full(self) -> bool:
        return cast(bool, self._call("full"))

    def task_done(self) -> None:
        self._callmethod("task_done")

    def join(self) -> None:
        self._callmethod("join")

    def _call(self, method: str, *args: object) -> object:
        return self._callmethod(method, args)  # type: ignore[func-returns-value]  # as typed there


class Registry(dict[str, Any]):
    """A manager's registry, which takes its options to the process that serves."""

    options: ServerOptions


class UnauthenticatedConnections:
    """Connections that have not authenticated yet, `MOST_STRANGERS` of them at the most.

    A newer one waits for a place: where a thousand who have the key come at once, each needs one
    for milliseconds. Where none comes free the oldest is ended, and the wait is halved: a flood
    of silent peers is not to be waited for. Who does authenticate doubles it again.

    Attributes:
        grace: seconds from connecting on in which none is ended.
    """

    grace = 0.0

    def __init__(self) -> None:
        self._here: dict[Channel, float] = {}  # when each connected, in order of arrival
        self._left = threading.Condition()  # guards all of this
        self._patience = PATIENT
        self._ended_at = 0.0

    def join(self, channel: Channel) -> None:
        """Take one in, once there is room; for the one thread that accepts."""
        with self._left:
            if time.monotonic() - self._ended_at > CALM:
                self._patience = PATIENT
            if not self._left.wait_for(self._has_room, self._wait()):
                self._end_oldest()
            self._here[channel] = time.monotonic() - channel.idle_seconds()

    def _has_room(self) -> bool:
        return len(self._here) < MOST_STRANGERS

    def _wait(self) -> float:
        oldest = next(iter(self._here.values()), 0.0)
        return max(self._patience, oldest + self.grace - time.monotonic())

    def _end_oldest(self) -> None:
        oldest = next(iter(self._here))
        del self._here[oldest]
        oldest.shutdown()
        self._patience /= 2
        self._ended_at = time.monotonic()

    def leave(self, channel: Channel, *, authenticated: bool = False) -> None:
        """It is none any more."""
        with self._left:
            if channel in self._here:
                del self._here[channel]
                self._left.notify()
            if authenticated:
                self._patience = min(2 * self._patience + 0.001, PATIENT)


class Server(mpm.Server):
    """The manager server, safe to leave open to a network.

    Overridden, with the behaviour of CPython 3.8 to 3.13 that each corrects beside it.
    """

    address: Address
    # Any client with the key could call shutdown, debug_info and number_of_objects.
    public = ["create", "accept_connection", "get_methods", "incref", "decref", "dummy"]  # noqa: RUF012  # as CPython has it
    # "#GETVALUE" would pickle a queue whole; str() and repr() show the server's insides.
    fallback_mapping = {}  # noqa: RUF012  # as CPython has it

    def __init__(
        self, registry: dict[str, Any], address: Address, authkey: bytes, serializer: str
    ) -> None:
        if not authkey:
            raise BadKey("the authkey is empty; an empty key lets everybody in")
        super().__init__(registry, address, authkey, serializer)
        self.stop_event = threading.Event()
        self._strangers = UnauthenticatedConnections()
        self._clients: set[Channel] = set()
        self._turn = sys.getswitchinterval()
        self._guard = threading.Lock()  # guards `_clients` and `_said`
        self._accepting: threading.Thread | None = None
        self._pinned: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._said: dict[str, float] = {}  # when which reason for a refusal was last given
        self._tls = PLAIN
        self._context: ssl.SSLContext | None = None
        self._log: Callable[[str], None] = log.warning
        options = getattr(registry, "options", ServerOptions())
        dispatcher = options.dispatcher(log.warning)
        dispatcher.presence.only_plain = True
        dispatcher.presence.on_news = lambda: _warn_of_news(dispatcher)
        self.serve(dispatcher, options.loads)

    def serve(self, dispatcher: Dispatcher, loads: Loads = safe_loads) -> None:
        """Serve these objects; before the first connection."""
        self.dispatcher = dispatcher
        self.loads = loads
        # Where a script brings queues of its own, dq's workers use them as a plain manager's.
        if not any(self._is_brought(typeid) for typeid in (TASK_QUEUE, RESULT_QUEUE)):
            self._pin(LEASES, LEASES, WorkerEndpoint(dispatcher), WorkerEndpoint.EXPOSED)
        self._pin(TASK_QUEUE, "tasks", TaskQueue(dispatcher), TaskQueue.EXPOSED)
        self._pin(RESULT_QUEUE, "results", ResultQueue(dispatcher), ResultQueue.EXPOSED)

    def encrypt(self, how: Tls, log: Callable[[str], None] = log.warning) -> None:
        """Speak TLS; before the first connection.

        Args:
            how: with what, and whether with plain connections besides.
            log: told, in one line each, who is refused and why.
        """
        self._log = log
        self._tls = how
        # On this machine's own sockets there is nobody in between.
        if how.mode != "off" and not isinstance(self.address, str):
            self._context = how.server_context(self.authkey)  # type: ignore[attr-defined]
        if self._context is not None and not how.required:
            # A plain client spends the first half of it waiting for the challenge.
            self._strangers.grace = 2 * limits.TLS_WAIT_S

    def _pin(self, typeid: str, ident: str, face: object, exposed: tuple[str, ...]) -> None:
        self._pinned[typeid] = (ident, exposed)
        self.id_to_obj[ident] = (face, set(exposed), None)  # type: ignore[assignment]  # as CPython

    def _is_brought(self, typeid: str) -> bool:
        """Whether a script has registered a callable for it."""
        made_by, *_ = self.registry.get(typeid, (None,))  # type: ignore[attr-defined]
        return made_by is not None

    # Connections

    def accepter(self) -> None:
        # CPython's dies on "can't start new thread", and spins on EMFILE or a closed listener.
        while not self.stop_event.is_set():
            try:
                channel = self.listener.accept()  # type: ignore[attr-defined]
            except OSError as error:
                if not self.stop_event.is_set():
                    self._say(f"cannot take a connection: {error.strerror or error}{_hint(error)}")
                    time.sleep(0.05)
                continue
            try:
                self._admit(channel)
                threading.Thread(target=self.handle_request, args=(channel,), daemon=True).start()
            except RuntimeError as error:
                self._say(f"cannot serve a connection: {error}")
                self._dismiss(channel)
                time.sleep(0.05)

    def _admit(self, channel: Channel) -> None:
        self._strangers.join(channel)
        channel.max_message = self.dispatcher.max_message
        channel.keep_alive(self.dispatcher.keepalive)
        channel.set_deadline(limits.HANDSHAKE_TIMEOUT_S)
        with self._guard:
            self._clients.add(channel)
            self._share()

    def _dismiss(self, channel: Channel) -> None:
        self._strangers.leave(channel)
        with self._guard:
            self._clients.discard(channel)
            self._share()
        channel.close()

    def _share(self) -> None:
        """Let threads keep the interpreter for longer, the more of them there are."""
        wanted = max(self._turn, TURN * len(self._clients) ** 2)
        if wanted > self._turn or sys.getswitchinterval() > self._turn:
            sys.setswitchinterval(wanted)

    def handle_request(self, conn: Channel) -> None:  # type: ignore[override]
        # CPython's has no deadline, and answers a wrong key with a traceback and paths.
        try:
            if self._authenticates(conn):
                self._answer(conn)
        except (SystemExit, OSError, EOFError):
            pass  # the connection has ended, at whichever end
        finally:
            self._dismiss(conn)

    def _authenticates(self, conn: Channel) -> bool:
        host = conn.peer()
        try:
            self._secure(conn)
            handshake.deliver_challenge(conn, self.authkey)  # type: ignore[attr-defined]
            handshake.answer_challenge(conn, self.authkey)  # type: ignore[attr-defined]
        except (AuthenticationError, AssertionError, ValueError, OSError, EOFError, TlsError) as e:
            self._refuse(conn, host, e)
            return False
        self._strangers.leave(conn, authenticated=True)
        conn.acknowledge()  # CPython's client has said "welcome", and goes on by Nagle's rule
        return True

    def _secure(self, conn: Channel) -> None:
        """Encrypt the connection where its client begins with that: a plain one waits for the
        challenge."""
        if self._context is None:
            return
        required = self._tls.required
        # In a flood, all of that has gone by while the connection waited to be taken.
        patience = max(0.0, limits.TLS_WAIT_S - conn.idle_seconds())
        first = conn.peek(FIRST_WORD if required else patience)
        if first == TLS_HELLO_BYTE:
            self._tls.check_peer(conn.accept_tls(self._context))
        elif required and not conn.peer_closed():
            conn.send_bytes(tls.ONLY[self._tls.mode])
            name = setting("tls")
            raise TlsError(f"it does not use TLS, and this master accepts nothing else ({name})")
        elif required:
            raise EOFError

    def _refuse(self, conn: Channel, host: str, error: BaseException) -> None:
        """Say why a client is refused, where TLS has to do with it."""
        reason = str(error) if isinstance(error, TlsError) else self._reason(conn, error)
        if reason is not None:
            self._say(f"refused a connection from {host}: {reason}", about=reason)

    def _say(self, line: str, about: str = "") -> None:
        """Say something of connections; not each time, since anybody can be refused a thousand
        times a second."""
        about, now = about or line, time.monotonic()
        with self._guard:
            if now - self._said.get(about, -SAID_AGAIN) < SAID_AGAIN:
                return
            self._said[about] = now
        self._log(line)

    def _reason(self, conn: Channel, error: BaseException) -> str | None:
        if isinstance(error, MessageTooLarge):
            # The first bytes of a TLS client, read as a length.
            strict = error.size >> 16 == 0x1603 and tls.LENIENT.encode() not in conn.buffered()
            return "it wants TLS, which this master does not speak" if strict else None
        if isinstance(error, OSError) and tls.is_tls(error):
            return tls.explain_client(error, self._tls)
        return None

    def _answer(self, conn: Channel) -> None:
        """The one request by which a connection says what it is for."""
        conn.loads = self._loads
        conn.on_too_large = lambda error: self._say_large(conn.peer(), error)
        conn.on_stalled = lambda: self._say(
            f"closed a connection from {conn.peer()}: nothing more of a message came for"
            f" {limits.STALL_TIMEOUT_S:g} s"
        )
        try:
            _, name, args, kwds = cast("_Request", conn.recv())
            if name not in self.public:
                raise AttributeError(f"{name!r} is not served")
            _check(name, args, kwds)
            result = getattr(self, name)(conn, *args, **kwds)
        except (OSError, EOFError):
            raise
        except Exception as error:
            conn.send(("#TRACEBACK", f"{type(error).__name__}: {error}"))
        else:
            conn.send(("#RETURN", result))

    def _say_large(self, host: str, error: MessageTooLarge) -> None:
        # Not by its size, of which a client can make up any number, and each would be kept.
        about = f"large messages of {host}"
        limit, name = self.dispatcher.max_message, setting("max_message")
        self._say(f"refused {error} from {host}; the limit is {limit} ({name})", about)

    def _loads(self, message: bytes | bytearray) -> object:
        try:
            request = self.loads(message)
        except Refused as error:
            hint = f"serve with {setting('pickle', 'any')} where every client is trusted"
            raise Refused(f"{error}; {hint}") from None
        except Exception:
            raise EOFError from None  # not a pickle: whoever sent it is no client
        if not _is_request(request):
            raise EOFError  # nor is this
        return request

    def accept_connection(self, c: Channel, name: str) -> None:  # type: ignore[override]
        # As CPython's, which sends its answer first; the deadline is over from here on.
        c.set_deadline(None)
        super().accept_connection(c, name)  # type: ignore[arg-type]  # a Channel serves as a Connection

    def serve_client(self, conn: Channel) -> None:  # type: ignore[override]
        # CPython's keeps hold of a request and of its answer, be they of 50 MiB, until the client
        # asks again; says of a request that fails what paths and code the server has; and has
        # its caller, where it returns because of `stop_event`, send None as the answer to a request
        # that was never carried out.
        with self.dispatcher.serving(conn):
            while not self.stop_event.is_set():
                self._serve_request(conn)
        raise SystemExit

    def _serve_request(self, conn: Channel) -> None:
        try:
            answer = self._carry_out(conn, cast("_Request", conn.recv()))
        except EOFError:
            raise SystemExit from None
        except Exception as error:
            answer = "#TRACEBACK", _last_line(error)
        try:
            if answer[1] is not ANSWERED:
                self._send_answer(conn, answer)
        except Exception:
            conn.close()
            raise SystemExit from None
        finally:
            del answer  # an exception's frames lead here, and would keep the request by it

    def _send_answer(self, conn: Channel, answer: tuple[str, object]) -> None:
        try:
            conn.send(answer)
        except Exception as error:
            conn.send(("#UNSERIALIZABLE", _last_line(error)))

    def _carry_out(self, conn: Channel, request: _Request) -> tuple[str, object]:
        ident, name, args, kwds = request
        served: _Served | None = self.id_to_obj.get(ident)
        obj, exposed, to_typeid = served or self.id_to_local_proxy_obj[ident]  # type: ignore[attr-defined]  # missing from typeshed
        if name not in exposed:
            fallback: Callable[..., object] = self.fallback_mapping[name]
            return "#RETURN", fallback(self, conn, ident, obj, *args, **kwds)
        try:
            result = getattr(obj, name)(*args, **kwds)
        except Exception as error:
            return "#ERROR", error
        typeid = to_typeid and to_typeid.get(name)
        if not typeid:
            return "#RETURN", result
        rident, rexposed = self.create(conn, typeid, result)
        return "#PROXY", (rexposed, mpm.Token(typeid, self.address, rident))

    # Objects

    def create(  # type: ignore[override]
        self, c: Channel, typeid: str, /, *args: object, **kwds: object
    ) -> tuple[str, tuple[str, ...]]:
        if not self._is_brought(typeid):
            return self._pinned[typeid]
        return super().create(c, typeid, *args, **kwds)  # type: ignore[arg-type]  # a Channel serves as a Connection

    # A race between create and decref could drop the last reference to a queue (and a client
    # could do that on purpose): what dq serves is not counted.
    def incref(self, c: Channel, ident: str) -> None:  # type: ignore[override]
        if not self._is_pinned(ident):
            super().incref(c, ident)  # type: ignore[arg-type]  # a Channel serves as a Connection

    def decref(self, c: Channel, ident: str) -> None:  # type: ignore[override]
        if not self._is_pinned(ident):
            super().decref(c, ident)  # type: ignore[arg-type]  # a Channel serves as a Connection

    def _is_pinned(self, ident: str) -> bool:
        return any(ident == pinned for pinned, _ in self._pinned.values())

    # Start and stop

    def start(self) -> None:
        """Serve in threads of this process."""
        thread = threading.Thread(target=self.accepter, name="dq-accepter", daemon=True)
        thread.start()
        self._accepting = thread

    def serve_forever(self) -> None:
        """Serve until the process is interrupted, and exit."""
        try:
            super().serve_forever()
        finally:
            self.close()

    def after_fork(self) -> None:
        """In a process that was forked from the one that serves: keep none of its sockets open,
        whose other ends would else not see that one end."""
        self.listener.close_after_fork()  # type: ignore[attr-defined]
        for channel in self._clients:
            channel.close()

    def close(self) -> None:
        """Stop serving; pending calls end with their connections."""
        self.dispatcher.stop()
        self.stop_event.set()
        self.listener.wake()  # type: ignore[attr-defined]
        if self._accepting is not None:
            # Before the listener is closed: poll() looks descriptors up by number again when it
            # wakes, and would wait for ever on whoever had been given the number meanwhile.
            self._accepting.join(ANSWERS)
        with self._guard:
            clients = list(self._clients)
        until = time.monotonic() + ANSWERS
        while any(channel.asked for channel in clients) and time.monotonic() < until:
            time.sleep(0.002)  # who put the last result is told so
        for channel in clients:
            channel.shutdown()
        self.listener.close()  # type: ignore[attr-defined]


def _warn_of_news(dispatcher: Dispatcher) -> None:
    with dispatcher.lock:
        notes = dispatcher.presence.notes()
    for note in notes:
        if note.warning:
            log.warning(note.line)


def _hint(error: OSError) -> str:
    if error.errno not in (errno.EMFILE, errno.ENFILE):
        return ""
    return "; those connected are served, and more when there is room (ulimit -n)"


def _is_request(value: object) -> bool:
    """Whether it is of the form in which clients ask. Nothing else is looked at any further: to
    hash or to show a value that has others in it many times over can take for ever."""
    if type(value) is not tuple or len(value) != 4:
        return False
    ident, method, args, kwds = value
    return (
        (ident is None or type(ident) is str)
        and type(method) is str
        and type(args) in (tuple, list)
        and type(kwds) is dict
        and (not kwds or all(type(name) is str for name in kwds))
    )


def _check(method: str, args: tuple[object, ...], kwds: dict[str, object]) -> None:
    """Refuse, for the same reason, what the server itself is not asked with."""
    wanted = mpm.Token if method == "get_methods" else str
    given = args[:1] if method == "create" else (*args, *kwds.values())
    if not all(isinstance(value, wanted) for value in given):
        raise TypeError(f"{method}() takes no such argument")


def _last_line(error: Exception) -> str:
    """What a traceback of it would end with."""
    return "".join(traceback.format_exception_only(error)).rstrip().rpartition("\n")[2]


class _State(Protocol):
    value: int


class QueueManager(BaseManager):
    """The class of the standard library's recipe, without its faults: it replaces a subclass of
    ``BaseManager``, has `get_task_queue` and `get_result_queue` registered, and serves both on one
    port.

    Args:
        address: host and port ('' for all addresses of IPv4 and IPv6, port 0 for a free one), or
            the path of a Unix socket.
        authkey: the shared key; not empty.
        maxsize: how many tasks may wait; 0 for any number. Results are not bounded.
        redeliver: requeue what a client got if its connection ends.
        pickle: "safe" for built-in and standard data types only, "any" for everything.

    Raises:
        BadKey: the key is empty.
        UsageError: `maxsize` or `pickle` cannot be used.

    >>> manager = QueueManager(("127.0.0.1", 0), authkey=b"only an example")
    >>> manager.start()
    >>> manager.get_task_queue().put(6)
    >>> manager.get_task_queue().get(timeout=10)
    6
    >>> manager.shutdown()
    """

    _Server = Server
    # Undocumented, and so not in the type stubs.
    _registry: dict[str, Any]
    _address: Address
    _authkey: bytes
    _serializer: str
    _state: _State

    def __init__(
        self,
        address: Address | None = None,
        authkey: bytes | None = None,
        *,
        maxsize: int = 0,
        redeliver: bool = True,
        pickle: str = "safe",
        **options: Any,
    ) -> None:
        if authkey is None:
            authkey = bytes(multiprocessing.process.current_process().authkey)
        if not authkey:
            raise BadKey("the authkey is empty; an empty key lets everybody in")
        options["serializer"] = SERIALIZER
        super().__init__(address or ("127.0.0.1", 0), authkey, **options)
        # Shadows the class's: `start` sends it to the server's process, and the options with it.
        registry = Registry(type(self)._registry)
        registry.options = ServerOptions(maxsize=maxsize, redeliver=redeliver, pickle=pickle)
        self._registry = registry

    def get_server(self) -> Server:
        # CPython's makes its own Server, whatever `_Server` says; `start` does not.
        if self._state.value != mpm.State.INITIAL:  # type: ignore[attr-defined]  # undocumented
            raise multiprocessing.ProcessError("this manager has started, or been shut down")
        return Server(self._registry, self._address, self._authkey, self._serializer)

    @classmethod
    def _run_server(cls, *args: Any) -> None:
        # Set here, since a handler of the parent's may have been forked with it.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        super()._run_server(*args)  # type: ignore[misc]  # undocumented

    @staticmethod
    def _finalize_manager(
        process: multiprocessing.process.BaseProcess,
        address: Address,
        authkey: bytes,
        state: _State,
        *ignored: object,
    ) -> None:
        # CPython's asks the server over the wire to shut down, which no client may do here.
        process.terminate()
        process.join(SHUTDOWN)
        if process.is_alive():
            process.kill()
            process.join()
        state.value = mpm.State.SHUTDOWN  # type: ignore[attr-defined]  # undocumented
        BaseProxy._address_to_local.pop(address, None)
        if isinstance(address, str):
            with contextlib.suppress(OSError):
                os.unlink(address)


QueueManager.register(TASK_QUEUE, proxytype=QueueProxy)
QueueManager.register(RESULT_QUEUE, proxytype=QueueProxy)
