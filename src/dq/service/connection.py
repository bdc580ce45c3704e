"""A client's connection to a master that keeps jobs, which is opened again when it is lost."""

from __future__ import annotations

import random
import threading
import time

from dq import errors
from dq._support.frozen import cast
from dq.errors import (
    AuthenticationFailed,
    ConnectError,
    DqError,
    ProtocolError,
    TlsError,
    UnknownHost,
)
from dq.manager.client import ServerConnection, backoff
from dq.security.safe_pickle import safe_loads
from dq.security.tls import PLAIN, Tls
from dq.service.endpoint_names import JOBS, PROTOCOL
from dq.transport.addresses import Address, show
from dq.transport.limits import KEEPALIVE_S


class JobsConnection:
    """Calls of a master's `JobsEndpoint`. Each is repeated when its connection is lost, which does
    no harm: the same call again changes nothing.

    Args:
        address: the master's.
        authkey: the shared key.
        tls: how the connection is encrypted.
        patience: seconds to look for a master that has gone.

    Raises:
        ConnectError: nobody listens there, or has another key, or keeps no jobs.
    """

    def __init__(
        self, address: Address, authkey: bytes, tls: Tls = PLAIN, patience: float = 60.0
    ) -> None:
        self.address = address
        self._authkey = authkey
        self._tls = tls
        self._patience = patience
        self._lock = threading.Lock()  # held during a call
        self._is_closed = False
        self.max_message = 0
        self._server: ServerConnection | None = self._open()

    def another(self) -> JobsConnection:
        """A connection of its own to the same master, for a call that waits."""
        return JobsConnection(self.address, self._authkey, self._tls, self._patience)

    def _open(self) -> ServerConnection:
        server = ServerConnection(
            self.address, self._authkey, "dq-client", self._tls, loads=safe_loads
        )
        try:
            answer = _checked(server.call(JOBS, "hello", PROTOCOL))
        except ProtocolError as error:
            server.close()
            if "KeyError" in str(error):
                raise ProtocolError(
                    f"the master at {show(self.address)} keeps no jobs: it runs inputs of its own,"
                    " or is another program; `dq master` without inputs keeps jobs"
                ) from None
            raise
        except BaseException:
            server.close()
            raise
        facts = cast("dict[str, int]", answer)
        self.max_message = facts["max_message"]
        server.channel.keep_alive(facts.get("keepalive", KEEPALIVE_S))
        return server

    def call(self, method: str, *args: object) -> object:
        """Call a method of the endpoint.

        Raises:
            ConnectError: the master was lost, and did not come back in time.
            DqError: what the master has answered.
        """
        with self._lock:
            deadline, attempt = time.monotonic() + self._patience, 0
            while True:
                try:
                    if self._server is None:
                        self._server = self._open()
                    return _checked(self._server.call(JOBS, method, *args))
                except (AuthenticationFailed, ProtocolError, TlsError, UnknownHost):
                    raise
                except ConnectError:
                    self._server = None
                    left = deadline - time.monotonic()
                    if left <= 0 or self._is_closed:
                        raise
                    time.sleep(min(backoff(attempt, random.random()), left))
                    attempt += 1
                except BaseException:
                    if self._server is not None and self._server.channel.closed:
                        self._server = None
                    raise

    def close(self) -> None:
        """Close it; a call that waits in another thread ends with an error."""
        self._is_closed = True
        server = self._server
        if server is not None:
            server.channel.shutdown()
            with self._lock:
                server.close()


def _checked(answer: object) -> object:
    """The result in an answer.

    Raises:
        DqError: it is an error.
    """
    kind, result = cast("tuple[str, object]", answer)
    if kind == "ok":
        return result
    found = getattr(errors, kind, None)
    if isinstance(found, type) and issubclass(found, DqError):
        raise found(str(result))
    raise DqError(str(result))
