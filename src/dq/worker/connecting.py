"""The connections of a task process's slots to the master."""

from __future__ import annotations

import threading
import time

from dq.errors import ConnectError, PlainMaster
from dq.manager.client import Client, backoff
from dq.transport.limits import MAX_MESSAGE_BYTES
from dq.worker.cells import DRAINED, LOST, RECYCLE
from dq.worker.config import Config, loads_for


class Leave(Exception):
    """Raised when a slot has nothing more to do; `code` says why."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Connector:
    """Connects slots to one run of the master.

    Args:
        config: where the master is.
        name: what the master calls this process.
        draining: set when the process has been told to leave.

    Attributes:
        max_result: the largest result that the master accepts, in bytes.
    """

    def __init__(self, config: Config, name: str, draining: threading.Event) -> None:
        self.max_result = MAX_MESSAGE_BYTES
        self._config = config
        self._name = name
        self._draining = draining
        self._run = ""  # the master's random id, once there was a connection

    def connect(self) -> Client:
        """Connect, and try again for up to `Config.reconnect` seconds.

        Raises:
            PlainMaster: the master is a plain `BaseManager`.
            Leave: there is no master to work for.
        """
        started, attempt = time.monotonic(), 0
        while True:
            try:
                client = self._open()
                self._check_run(client)
                return client
            except PlainMaster:
                raise
            except ConnectError:
                left = started + self._config.reconnect - time.monotonic()
                if left <= 0:
                    raise Leave(LOST) from None
                if self._draining.wait(min(backoff(attempt), left)):
                    raise Leave(DRAINED) from None
                attempt += 1

    def _open(self) -> Client:
        config = self._config
        client = Client(
            config.address,
            config.authkey,
            role="slot",
            group=config.group,
            name=self._name,
            tls=config.tls,
            default=config.task is not None,
            tags=config.tags,
            loads=loads_for(config.allow),
        )
        self.max_result = client.max_message
        return client

    def _check_run(self, client: Client) -> None:
        """Leave if a fresh process has to take over. That is so if the master was restarted: this
        process still has the old modules and the old function for plain clients. It is also so if
        the master has another hash seed, which the supervisor has not seen yet."""
        if self._run not in ("", client.run) or client.hash_seed != self._config.hash_seed:
            client.close()
            raise Leave(RECYCLE)
        self._run = client.run
