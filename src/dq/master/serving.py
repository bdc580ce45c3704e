"""How a master can be reached: its address, key, encryption and server."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING

from dq._support import platform
from dq.dispatch.dispatcher import Dispatcher
from dq.errors import ConnectError, UsageError
from dq.manager.server import Registry, Server
from dq.manager.server_options import ServerOptions
from dq.master.lifetime import NOT_STARTED
from dq.security import keys
from dq.security.tls import PLAIN
from dq.security.tls_options import TlsOptions
from dq.service.endpoint_names import JOBS
from dq.transport.addresses import Address, outside, reachable, show
from dq.transport.dialing import SERIALIZER
from dq.transport.listener import explain_bind

if TYPE_CHECKING:
    from dq.service.endpoint import JobsEndpoint  # SQLite, which few masters need

MAX_SOCKET_PATH = 100  # characters; sun_path has 108 bytes, 104 on macOS


class Serving:
    """Opens and closes the server of a master.

    Args:
        options: say where it listens; without a port, only workers of this machine can reach it.
        tls: how connections to a port are encrypted.
        authkey: the shared key; None to look for it, or to make one where there is no port.
        report: called for each client that is refused, with a line that says why.

    Raises:
        BadKey: there is no key, or an empty one.
        UsageError: the files of `tls` cannot be used.
    """

    def __init__(
        self,
        options: ServerOptions,
        tls: TlsOptions,
        authkey: bytes | str | None,
        report: Callable[[str], None],
    ) -> None:
        self.has_port = options.port is not None
        self.authkey = _find_key(authkey, self.has_port)
        # A socket that only this user's processes can reach needs no encryption.
        self.tls = tls.settings() if self.has_port else PLAIN
        self._options = options
        self._report = report
        self._server: Server | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None  # of a Unix socket

    def open(self, dispatcher: Dispatcher, jobs: JobsEndpoint | None) -> None:
        """Listen, and serve the dispatcher.

        Args:
            dispatcher: what workers and plain clients use.
            jobs: what clients of its jobs use; None if it keeps none.

        Raises:
            ConnectError: the port cannot be had.
        """
        self._server = self._bind(self._options.address or self._private_address())
        self._server.serve(dispatcher, self._options.loads)
        if jobs is not None:
            self._server.serve_also(JOBS, jobs, jobs.EXPOSED)
        self._server.encrypt(self.tls, self._report)
        self._server.start()

    def close(self) -> None:
        """Stop listening, end the connections, and remove the Unix socket."""
        if self._server is not None:
            self._server.close()
        if self._folder is not None:
            self._folder.cleanup()

    def after_fork(self) -> None:
        """Close a fork's copy of the server, and leave the folder to the parent."""
        if self._folder is not None:
            self._folder._finalizer.detach()  # type: ignore[attr-defined]  # which would remove it
        if self._server is not None:
            self._server.after_fork()

    @property
    def address(self) -> Address:
        """Host and port, or the path of the Unix socket."""
        return self._opened.address

    @property
    def shown(self) -> str:
        """The address, for people."""
        return str(self._opened.listener)  # type: ignore[attr-defined]  # undocumented

    @property
    def _opened(self) -> Server:
        if self._server is None:
            raise UsageError(NOT_STARTED)
        return self._server

    @property
    def local_address(self) -> Address:
        """The address for processes on this machine."""
        if isinstance(self.address, str):
            return self.address
        return reachable(*self.address)

    def join_command(self, *, needs_task: bool) -> str:
        """The command that starts a worker on another machine, without the key."""
        address = self.address
        assert not isinstance(address, str)
        command = f"dq worker --server {show(outside(*address))}"
        if needs_task:
            command += " --task TASK"
        if self.tls.mode == "certs":
            command += " --tls-cert FILE --tls-key FILE --tls-ca FILE"
        return command

    def _private_address(self) -> Address:
        """A Unix socket that only this user's processes can reach or, if there are none, a local
        port that needs the key."""
        if not platform.unix_sockets():
            return ("127.0.0.1", 0)
        try:
            self._folder = tempfile.TemporaryDirectory(prefix="dq-")
        except OSError:  # a file system that is read-only, or full
            return ("127.0.0.1", 0)
        path = os.path.join(self._folder.name, "master")
        return path if len(path) < MAX_SOCKET_PATH else ("127.0.0.1", 0)

    def _bind(self, address: Address) -> Server:
        try:
            return Server(Registry(), address, self.authkey, SERIALIZER)
        except (OSError, UnicodeError) as error:  # UnicodeError if the host is no valid name
            raise ConnectError(explain_bind(address, error)) from None


def _find_key(authkey: bytes | str | None, has_port: bool) -> bytes:
    if authkey is None and not has_port:
        return keys.generate()
    return keys.find(authkey)
