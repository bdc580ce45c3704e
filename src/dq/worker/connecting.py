"""The connections of a task process's slots to the master."""

from __future__ import annotations

import random
import threading
import time

from dq.errors import ConnectError, PlainMaster
from dq.manager.client import Client, backoff
from dq.transport.limits import MAX_MESSAGE_BYTES
from dq.worker.cells import DRAINED, LOST, RECYCLE
from dq.worker.config import Config, loads_for


class Leave(Exception):
    """Raised when a slot has no more to do; `code` says why."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Connector:
    """Connects slots to one run of the master.

    Args:
        config: where the master is.
        name: of this process, for the master.
        draining: set when the process is to leave.

    Attributes:
        max_result: bytes of the largest result that the master takes.
    """

    def __init__(self, config: Config, name: str, draining: threading.Event) -> None:
        self.max_result = MAX_MESSAGE_BYTES
        self._config = config
        self._name = name
        self._draining = draining
        self._run = ""  # the master's random id, once there was a connection

    def connect(self) -> Client:
        """Connect, however often it has to be tried within `Config.reconnect`.

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
                if self._draining.wait(min(backoff(attempt, random.random()), left)):
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
            loads=loads_for(config.allow),
        )
        self.max_result = client.max_message
        return client

    def _check_run(self, client: Client) -> None:
        """Leave to a fresh process the master that was started again, because this process has the
        modules, and the plain clients' function, of before; and the master that has another seed
        for hashes, because the supervisor has not seen it yet."""
        if self._run not in ("", client.run) or client.hash_seed != self._config.hash_seed:
            client.close()
            raise Leave(RECYCLE)
        self._run = client.run
