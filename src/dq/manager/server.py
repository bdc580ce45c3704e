"""The standard library's manager server, without its faults.

The objects that it serves are in `dq.manager.endpoints` and `dq.manager.worker_endpoint`.
"""

from __future__ import annotations

import errno
import logging
import multiprocessing.managers as mpm
import threading
import time
from collections.abc import Callable, Collection
from typing import Any, cast

from dq._support.naming import setting
from dq.core.records import Loads
from dq.dispatch.dispatcher import Dispatcher
from dq.errors import BadKey
from dq.manager.admission import Admission
from dq.manager.clients import ANSWERS_TIMEOUT_S, Clients
from dq.manager.endpoints import ResultQueue, TaskQueue
from dq.manager.protocol import LEASES
from dq.manager.rate_limited_log import RateLimitedLog
from dq.manager.requests import Request, check_control, last_line, load_request
from dq.manager.server_options import ServerOptions
from dq.manager.worker_endpoint import ANSWERED, WorkerEndpoint
from dq.security.safe_pickle import safe_loads
from dq.security.tls import Tls
from dq.transport import dialing, limits
from dq.transport.addresses import Address
from dq.transport.channel import Channel
from dq.transport.dialing import SERIALIZER
from dq.transport.listener import Listener
from dq.transport.reading import MessageTooLarge

TASK_QUEUE, RESULT_QUEUE = "get_task_queue", "get_result_queue"

log = logging.getLogger("dq")

# The standard library has no other way to use a custom listener.
mpm.listener_client[SERIALIZER] = (  # type: ignore[attr-defined]  # undocumented
    Listener,
    dialing.dial,
)

_Served = tuple[object, Collection[str], dict[str, str] | None]  # methods, typeids of their results


class Registry(dict[str, Any]):
    """A manager's registry, which carries its options to the server's process."""

    options: ServerOptions


class Server(mpm.Server):
    """The manager server, safe to expose to a network.

    A comment in each overridden method says which behaviour of CPython 3.8 to 3.13 it corrects.
    """

    address: Address
    # Any client with the key could call shutdown, debug_info and number_of_objects.
    public = ["create", "accept_connection", "get_methods", "incref", "decref", "dummy"]  # noqa: RUF012  # as CPython has it
    # "#GETVALUE" would pickle a whole queue; str() and repr() would show internal state.
    fallback_mapping = {}  # noqa: RUF012  # as CPython has it

    def __init__(
        self, registry: dict[str, Any], address: Address, authkey: bytes, serializer: str
    ) -> None:
        if not authkey:
            raise BadKey("the authkey is empty; an empty key lets everybody in")
        super().__init__(registry, address, authkey, serializer)
        self.stop_event = threading.Event()
        self._log = RateLimitedLog(log.warning)
        self._admission = Admission(authkey, self._log)
        self._clients = Clients()
        self._accepting: threading.Thread | None = None
        self._pinned: dict[str, tuple[str, tuple[str, ...]]] = {}
        options = getattr(registry, "options", ServerOptions())
        dispatcher = options.dispatcher(log.warning)
        dispatcher.presence.only_plain = True
        dispatcher.presence.on_notes = lambda: _warn_of_news(dispatcher)
        self.serve(dispatcher, options.loads)

    def serve(self, dispatcher: Dispatcher, loads: Loads = safe_loads) -> None:
        """Serve a dispatcher's endpoints; called before the first connection."""
        self.dispatcher = dispatcher
        self.loads = loads
        # If a script has registered queues of its own, dq's workers use those as plain clients.
        if not any(self._is_brought(typeid) for typeid in (TASK_QUEUE, RESULT_QUEUE)):
            self._pin(LEASES, LEASES, WorkerEndpoint(dispatcher), WorkerEndpoint.EXPOSED)
        self._pin(TASK_QUEUE, "tasks", TaskQueue(dispatcher), TaskQueue.EXPOSED)
        self._pin(RESULT_QUEUE, "results", ResultQueue(dispatcher), ResultQueue.EXPOSED)

    def serve_also(self, ident: str, endpoint: object, exposed: tuple[str, ...]) -> None:
        """Serve another object, with these of its methods; called before the first connection."""
        self._pin(ident, ident, endpoint, exposed)

    def encrypt(self, how: Tls, log: Callable[[str], None] = log.warning) -> None:
        """Use TLS; called before the first connection.

        Args:
            how: which TLS, and whether plain connections are accepted too.
            log: called with a line for each client that is refused, and the reason.
        """
        self._log.write = log
        self._admission.encrypt(how, self.address)

    def _pin(self, typeid: str, ident: str, endpoint: object, exposed: tuple[str, ...]) -> None:
        self._pinned[typeid] = (ident, exposed)
        self.id_to_obj[ident] = (endpoint, set(exposed), None)  # type: ignore[assignment]  # as CPython

    def _is_brought(self, typeid: str) -> bool:
        """Whether a script has registered a callable for it."""
        made_by, *_ = self.registry.get(typeid, (None,))  # type: ignore[attr-defined]
        return made_by is not None

    # Connections

    def accepter(self) -> None:
        # CPython's dies if no thread can be started, and spins on EMFILE or a closed listener.
        while not self.stop_event.is_set():
            try:
                channel = self.listener.accept()  # type: ignore[attr-defined]
            except OSError as error:
                if not self.stop_event.is_set():
                    self._log.say(
                        f"cannot take a connection: {error.strerror or error}{_hint(error)}"
                    )
                    time.sleep(0.05)
                continue
            try:
                self._admit(channel)
                threading.Thread(target=self.handle_request, args=(channel,), daemon=True).start()
            except RuntimeError as error:
                self._log.say(f"cannot serve a connection: {error}")
                self._dismiss(channel)
                time.sleep(0.05)

    def _admit(self, channel: Channel) -> None:
        self._admission.waiting.join(channel)
        channel.max_message = self.dispatcher.max_message
        channel.keep_alive(self.dispatcher.keepalive)
        channel.set_deadline(limits.HANDSHAKE_TIMEOUT_S)
        self._clients.add(channel)

    def _dismiss(self, channel: Channel) -> None:
        self._admission.waiting.leave(channel)
        self._clients.discard(channel)
        channel.close()

    def handle_request(self, conn: Channel) -> None:  # type: ignore[override]
        # CPython's has no deadline, and answers a wrong key with a traceback that contains paths.
        try:
            if self._authenticates(conn):
                self._answer(conn)
        except (SystemExit, OSError, EOFError):
            pass  # the connection has ended, at whichever end
        finally:
            self._dismiss(conn)

    def _authenticates(self, conn: Channel) -> bool:
        return self._admission.authenticates(conn)

    def _answer(self, conn: Channel) -> None:
        """Answer a connection's first request, which says what it is for."""
        conn.loads = self._loads
        conn.on_too_large = lambda error: self._say_large(conn.peer(), error)
        conn.on_stalled = lambda: self._log.say(
            f"closed a connection from {conn.peer()}: nothing more of a message came for"
            f" {limits.STALL_TIMEOUT_S:g} s"
        )
        try:
            _, name, args, kwds = cast("Request", conn.recv())
            if name not in self.public:
                raise AttributeError(f"{name!r} is not served")
            check_control(name, args, kwds)
            result = getattr(self, name)(conn, *args, **kwds)
        except (OSError, EOFError):
            raise
        except Exception as error:
            conn.send(("#TRACEBACK", f"{type(error).__name__}: {error}"))
        else:
            conn.send(("#RETURN", result))

    def _say_large(self, host: str, error: MessageTooLarge) -> None:
        # Without the size: a client could announce any number of sizes, and each would be kept.
        about = f"large messages of {host}"
        limit, name = self.dispatcher.max_message, setting("max_message")
        self._log.say(f"refused {error} from {host}; the limit is {limit} ({name})", about)

    def _loads(self, message: bytes | bytearray) -> object:
        return load_request(message, self.loads)

    def accept_connection(self, c: Channel, name: str) -> None:  # type: ignore[override]
        # CPython's sends its answer first. From here on there is no deadline.
        c.set_deadline(None)
        super().accept_connection(c, name)  # type: ignore[arg-type]  # a Channel serves as a Connection

    def serve_client(self, conn: Channel) -> None:  # type: ignore[override]
        # CPython's keeps a request and its answer, even of 50 MiB, until the next request. It
        # answers a failed request with a traceback that shows the server's paths and code. And when
        # it returns because of `stop_event`, its caller sends None as the answer to a request that
        # was never carried out.
        with self.dispatcher.serving(conn):
            while not self.stop_event.is_set():
                self._serve_request(conn)
        raise SystemExit

    def _serve_request(self, conn: Channel) -> None:
        try:
            answer = self._carry_out(conn, cast("Request", conn.recv()))
        except EOFError:
            raise SystemExit from None
        except Exception as error:
            answer = "#TRACEBACK", last_line(error)
        try:
            if answer[1] is not ANSWERED:
                self._send_answer(conn, answer)
        except Exception:
            conn.close()
            raise SystemExit from None
        finally:
            del answer  # an exception's frames would keep the request in memory

    def _send_answer(self, conn: Channel, answer: tuple[str, object]) -> None:
        try:
            conn.send(answer)
        except Exception as error:
            conn.send(("#UNSERIALIZABLE", last_line(error)))

    def _carry_out(self, conn: Channel, request: Request) -> tuple[str, object]:
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

    # dq's own objects are not counted, because a race between create and decref could drop the last
    # reference to a queue, and a client could do that on purpose.
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
        """Close the server's sockets in a forked process. Otherwise clients would not notice when
        the server closes them."""
        self.listener.close_after_fork()  # type: ignore[attr-defined]
        self._clients.close()

    def close(self) -> None:
        """Stop serving. Pending calls end with their connections."""
        self.dispatcher.stop()
        self.stop_event.set()
        self.listener.wake()  # type: ignore[attr-defined]
        if self._accepting is not None:
            # Before the listener is closed: when poll() wakes, it looks descriptors up by number
            # again, and would wait for ever on a new descriptor with the same number.
            self._accepting.join(ANSWERS_TIMEOUT_S)
        # First, so that who learns of the end from its connection is refused when it tries again,
        # rather than left waiting: see `Connections.wait_until_none`.
        self.listener.close()  # type: ignore[attr-defined]
        self._clients.shutdown()


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
