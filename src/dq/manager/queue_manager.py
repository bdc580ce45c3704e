"""`QueueManager`: the class of the standard library's recipe, without its faults."""

from __future__ import annotations

import contextlib
import multiprocessing.managers as mpm
import multiprocessing.process
import os
import signal
import sys
from multiprocessing.managers import BaseManager, BaseProxy
from typing import Any, Protocol, cast

from dq.errors import BadKey
from dq.manager.endpoints import TaskQueue
from dq.manager.server import RESULT_QUEUE, TASK_QUEUE, Registry, Server
from dq.manager.server_options import ServerOptions
from dq.transport.addresses import Address
from dq.transport.dialing import SERIALIZER

SHUTDOWN_TIMEOUT_S = 5.0  # for a server's process to end by itself


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
        # Shadows the class attribute: `start` sends it, with the options, to the server's process.
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
        # Set here, since the fork may have inherited a handler of the parent.
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
        process.join(SHUTDOWN_TIMEOUT_S)
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
