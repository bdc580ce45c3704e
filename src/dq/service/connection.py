"""A client's connection to a master that keeps jobs, which is opened again when it is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain, repeat

from dq import errors
from dq._support.frozen import cast
from dq.core.records import Loads
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

NOTICE_S = 3.0  # without a master, before people are told that it is looked for
SILENCE_S = 40.0  # without an answer, likewise; no call waits so long at the master


# Sends a call and receives the answer.
Exchange = Callable[[ServerConnection, str, "tuple[object, ...]"], object]


def _nothing(line: str) -> None:
    pass


class JobsConnection:
    """Calls of a master's `JobsEndpoint`. Each is repeated when its connection is lost, which does
    no harm: the same call again changes nothing.

    Args:
        address: the master's.
        authkey: the shared key.
        tls: how the connection is encrypted.
        patience: seconds to look for a master that has gone.
        report: called with each line that people should see.
        loads: unpickles answers.
    """

    def __init__(
        self,
        address: Address,
        authkey: bytes,
        tls: Tls = PLAIN,
        patience: float = 60.0,
        report: Callable[[str], None] = _nothing,
        loads: Loads = safe_loads,
    ) -> None:
        self.address = address
        self._authkey = authkey
        self._tls = tls
        self._patience = patience
        self._report = report
        self._loads = loads
        self._lock = threading.Lock()  # held during a call
        self._is_closed = False
        self.max_message = 0
        self._server: ServerConnection | None = None

    def open(self) -> JobsConnection:
        """Connect now, and do not wait for a master that is not there. Returns itself.

        Raises:
            ConnectError: nobody listens there, or has another key, or keeps no jobs.
        """
        with self._lock:
            self._server = self._open()
        return self

    def another(self, loads: Loads = safe_loads, *, reports: bool = True) -> JobsConnection:
        """A connection of its own to the same master, for a call that waits. It is opened by the
        first call.

        Args:
            loads: unpickles answers.
            reports: tell people when the master is lost; one connection of a command is enough.
        """
        report = self._report if reports else _nothing
        return JobsConnection(self.address, self._authkey, self._tls, self._patience, report, loads)

    def _open(self) -> ServerConnection:
        server = ServerConnection(
            self.address, self._authkey, "dq-client", self._tls, loads=self._loads
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
        server.channel.peer_sends_at_once()
        return server

    def call(self, method: str, *args: object) -> object:
        """Call a method of the endpoint.

        Raises:
            ConnectError: the master was lost, and did not come back in time.
            DqError: what the master has answered.
        """
        return self._call(self._patience, self._timed, method, args)

    def call_once(self, method: str, *args: object) -> object:
        """The same, without looking for a master that was lost."""
        return self._call(0.0, self._timed, method, args)

    def call_often(self, method: str, *args: object) -> object:
        """The same in less time, for messages that are so short that sending them never waits."""
        return self._call(self._patience, self._polled, method, args)

    def post(self, method: str, *args: object) -> bool:
        """Send a call whose answer `finish` has to take next, unless sending might wait. Returns
        whether it was sent. Another thread may call `finish`."""
        if not self._lock.acquire(blocking=False):
            return False
        is_sent = False
        try:
            if self._server is not None and self._server.channel.may_send():
                self._server.post(JOBS, method, *args)
                is_sent = True
        except ConnectError:
            self._server = None
        finally:
            if not is_sent:
                self._lock.release()
        return is_sent

    def finish_if_ready(self) -> tuple[object] | None:
        """Take the answer to what `post` has sent, if it has arrived. If not, or if it is an error,
        `finish` has to be called."""
        server = self._server
        if server is None:
            return None
        try:
            if not server.await_answer(0.0):
                return None
            answer = _checked(server.answer())
        except DqError:
            server.close()
            self._server = None
            return None
        self._lock.release()
        return (answer,)

    def finish(self, method: str, *args: object) -> object:
        """Take the answer to what `post` has sent. If the connection is lost, call the method
        again. Errors are those of `call`."""
        try:
            first = self._polled if self._server is None else self._answered
            return self._repeat(self._patience, chain([first], repeat(self._polled)), method, args)
        finally:
            self._lock.release()

    def _call(
        self, patience: float, exchange: Exchange, method: str, args: tuple[object, ...]
    ) -> object:
        with self._lock:
            return self._repeat(patience, repeat(exchange), method, args)

    def _repeat(
        self,
        patience: float,
        exchanges: Iterator[Exchange],
        method: str,
        args: tuple[object, ...],
    ) -> object:
        """Call a method until there is an answer; called with the lock held."""
        search = _Search(self.address, patience, self._report)
        while True:
            if self._is_closed:
                raise ConnectError("the connection to the master was closed here")
            exchange = next(exchanges)
            try:
                if self._server is None:
                    self._server = self._open()
                    search.found()
                return _checked(exchange(self._server, method, args))
            except (AuthenticationFailed, ProtocolError, TlsError, UnknownHost):
                raise
            except ConnectError:
                self._server = None
                if not self._is_closed and not search.wait():
                    raise
            except BaseException:
                if self._server is not None and self._server.channel.closed:
                    self._server = None
                raise

    def _timed(self, server: ServerConnection, method: str, args: tuple[object, ...]) -> object:
        timer = threading.Timer(SILENCE_S, self._report_silence)
        timer.daemon = True
        timer.start()
        try:
            return server.call(JOBS, method, *args)
        finally:
            timer.cancel()

    def _polled(self, server: ServerConnection, method: str, args: tuple[object, ...]) -> object:
        server.post(JOBS, method, *args)
        return self._answered(server, method, args)

    def _answered(self, server: ServerConnection, method: str, args: tuple[object, ...]) -> object:
        if not server.await_answer(SILENCE_S):
            self._report_silence()
        return server.answer()

    def _report_silence(self) -> None:
        """Say that the master does not answer: it may be stopped, or its machine overloaded."""
        self._report(
            f"the master at {show(self.address)} has not answered for {SILENCE_S:g} s; still"
            " waiting"
        )

    def after_fork(self) -> None:
        """Close a fork's copy of the socket, through which the original process goes on."""
        if self._server is not None:
            self._server.close()

    def close(self) -> None:
        """Close it; a call that waits in another thread ends with an error."""
        self._is_closed = True
        server = self._server
        if server is not None:
            server.channel.shutdown()
            with self._lock:
                server.close()


class _Search:
    """Waits between two attempts to find a master that was lost, and tells people of it."""

    def __init__(self, address: Address, patience: float, report: Callable[[str], None]) -> None:
        self._where = show(address)
        self._patience = patience
        self._report = report
        self._since: float | None = None  # when it was lost
        self._attempts = 0
        self._is_told = False

    def wait(self) -> bool:
        """Wait a little. Returns False if it has been looked for long enough."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        left = self._since + self._patience - now
        if left <= 0:
            return False
        if not self._is_told and now - self._since >= min(NOTICE_S, self._patience / 2):
            self._is_told = True
            self._report(f"lost the master at {self._where}; looking for it for {left:.0f} s more")
        time.sleep(min(backoff(self._attempts), left))
        self._attempts += 1
        return True

    def found(self) -> None:
        """Say that it is there again, if people were told that it was not."""
        if self._is_told:
            self._is_told = False
            self._report(f"the master at {self._where} is back")


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
