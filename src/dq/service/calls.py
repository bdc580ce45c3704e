"""The calls of executors elsewhere, which a serving master's workers run.

A client opens calls, pushes them in their order, and takes what becomes of them from a cursor on.
It may say each of these again if it has lost its connection: the same again changes nothing. All of
it is in memory only. A client whose calls are not here any more pushes those without an outcome to
whichever master it finds.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace

from dq.core.jobs import Rules
from dq.data.sources import Source
from dq.dispatch.dispatcher import Dispatcher
from dq.functions.spec import JobSpec
from dq.service.client_calls import ClientCalls
from dq.service.specs import with_new_id

CLIENT_TIMEOUT_S = 60.0  # without a word from a client, after which its calls are ended


class CallService:
    """Has the calls of clients run.

    Args:
        dispatcher: serves them.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._lock = threading.Lock()  # guards `_calls`; acquired before any other lock
        self._calls: dict[str, ClientCalls] = {}

    def open(self, id: str, spec: JobSpec, rules: Rules) -> None:
        """Begin with the calls of a client. The same again changes nothing.

        Args:
            id: random, made by the client.
            spec: what workers need to know of them.
            rules: the rules for each.
        """
        with self._lock:
            if id not in self._calls:
                served = self._dispatcher.jobs.open(
                    with_new_id(spec), replace(rules, pushed=True), Source(iter(()))
                )
                self._calls[id] = ClientCalls(served, self._dispatcher)

    def find(self, id: str) -> ClientCalls | None:
        """The calls with this id; None if they were closed, or this is another master."""
        with self._lock:
            return self._calls.get(id)

    def close(self, id: str) -> None:
        """End calls, those that run too."""
        with self._lock:
            calls = self._calls.pop(id, None)
        if calls is not None:
            calls.close()

    def tick(self) -> None:
        """End the calls of clients that have gone; called at intervals."""
        now = time.monotonic()
        with self._lock:
            found = list(self._calls.items())
        for id, calls in found:
            calls.tick()
            if calls.silent_seconds(now) > CLIENT_TIMEOUT_S:
                self.close(id)
